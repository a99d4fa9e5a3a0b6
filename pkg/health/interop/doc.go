// Package interop holds our STAMP packets, reflector and pinger against
// implementations by others: Debian's python3-scapy as sender and as reflector,
// and tshark as decoder. Its tests run with
//
//	go test -tags interop ./pkg/health/interop
//
// and need the packages python3-scapy and tshark; they fail, rather than being
// left out, when those are missing. tshark reads captures that the tests write
// themselves, so no privileges are needed.
package interop
