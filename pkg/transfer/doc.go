// Package transfer is the domain of Sluice: the words that both services
// share, as types, without any I/O.
//
// A transfer moves the files of a manifest from a sender to a receiver in five
// steps: offer, answer, lanes, verify, commit. This package names what passes
// between the steps (Offer, Answer, CommitPart, Receipt …), the identifiers
// (ID, Session, Epoch), how a file is cut (ChunkSizeFor, ChunkRange), how paths
// are judged (ParsePath) and how failures are classed (Kind, Error).
//
// Nothing here blocks, opens a file or knows protobuf: engines (pkg/send,
// pkg/recv), storage (pkg/store) and the gRPC boundary (pkg/control) all import
// it, and it imports none of them.
//
// # Why one package for all words
//
// Both engines run against each other in process in tests and over gRPC in
// production. If each side had its own types, the conversion would be written
// three times and drift; so the types live here and protobuf stops in
// pkg/control.
package transfer
