// Package recvtest is the conformance suite of the protocol: it runs against any
// receiver, in process or over gRPC.
//
//	recvtest.Run(t, "../../docs/protocol.md", func(t *testing.T, gate *recvtest.Gate) *recvtest.Fixture { … })
//
// It reads the state table from docs/protocol.md and tries every cell, so that the
// document and the receiver cannot drift apart.
package recvtest
