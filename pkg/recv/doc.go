// Package recv is the receiving engine: it judges offers, takes lanes, verifies
// and publishes. docs/protocol.md is its specification; each of the five steps
// has a file of its name here and in pkg/send.
//
//	offer.go   what a sender proposes: checks, sessions, epochs
//	answer.go  what we say: token, chunk sizes, what is held
//	lanes.go   accepting data connections; lane.go is one of them
//	verify.go  comparing digests, repair, expected digests, gates
//	commit.go  publishing, the receipt
//
// # Use
//
//	r, err := recv.New(recv.Config{Store: s, DataAddrs: …})
//	go r.Run(ctx)            // clean-up and parking
//	go r.ServeLanes(ctx, ln) // data plane
//	view := r.As(recv.Caller{Principal: "ci"})
//	answer, err := view.Negotiate(ctx, part)
//	…
//	r.Drain(ctx)             // stop taking offers, park what is unfinished
//	r.Close()
//
// Principal and policy come with each call as a [Caller]; who the caller is was
// found out by pkg/auth. pkg/control translates the calls to gRPC. The storage
// is a store.Store; nothing here opens a file.
//
// # Cancellation
//
// A call that is cut stops waiting, with one exception in its effect: a Commit
// that has begun runs on, and a repeated call joins it. Lanes end when the
// context of ServeLanes ends; what they wrote stays.
//
// # Limits
//
// Limits bounds transfers, lanes and connections that have not identified
// themselves. Memory of a transfer: its manifest in the store, 100 octets a file
// while digests arrive, and for each lane a goroutine, with 256 KiB more while
// small files pass.
//
// # Why
//
// Why does no goroutine touch every octet? Each lane reads, hashes and writes by
// itself, so more cores mean more speed; only claims of chunks and counters are
// shared.
//
// Why are lanes read header by header, without a buffer, until small files come?
// A large frame is then read straight into the store's hot buffer, or spliced
// when nothing is hashed, and an idle lane costs no buffer.
//
// Why is a refused lane read for up to two seconds before it is closed? Closing a
// socket with unread octets sends RST, which would destroy the record that says
// why.
//
// Why does the gate's refusal remove the data? The same octets would be refused
// again; keeping them would hold space for nothing. A gate that fails to run says
// nothing about the octets, so they stay.
package recv
