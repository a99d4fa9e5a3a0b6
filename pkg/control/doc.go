// Package control is the gRPC control plane: the only place that knows protobuf
// and gRPC statuses. It turns the domain's types into messages and back
// (convert*.go), kinds into statuses and back (status.go), serves a receiving
// engine (server.go), reaches a far one (client.go) and builds servers with the
// interceptors, limits and standard services that both Sluice services have.
//
// # Use
//
//	srv, err := control.NewServer(control.ServerConfig{Auth: guard, …})
//	srv.RegisterReceiver(control.ReceiverConfig{View: …})
//	err = srv.Serve(ctx, listener, 10*time.Second)
//
//	c, err := control.Dial(control.ClientConfig{Target: "files.example:7400", …})
//	answer, err := c.Negotiate(ctx, part)
//
// # Refusals and errors
//
// An offer that was understood and refused (invalid, exists, denied, no_space) is
// an answer with ok = false, which names every bad file. Everything else is a
// gRPC status: its code by the table in status.go, ErrorInfo with the kind as
// reason, RetryInfo, QuotaFailure, BadRequest. [Client] gives back the same
// *transfer.Error in both cases, with Remote set.
//
// # Cancellation and time
//
// The client sets a deadline for each call but Commit and the calls that wait,
// which last as long as the work does; keepalive notices a dead far side there.
// The client never repeats a call: only the engine does.
//
// # Limits
//
// A connection has at most 100 streams at once, 16 KiB of headers, 4 MiB a
// message, 5 s for its handshake and 5 minutes without a stream. Pings more
// often than each 10 s close it. Details of one status are bounded to 4 KiB,
// because they travel as trailers and clients accept 8 KiB of those.
//
// # Why a refusal is not a status
//
// A refusal names up to 10,000 files. Statuses travel in HTTP trailers, which
// many clients bound to 8 KiB; a message may have 4 MiB.
//
// # Why rate limiting comes before authentication
//
// Checking a token costs a hash and a certificate chain more; whoever floods
// without credentials must be cheaper to refuse than to look at.
package control
