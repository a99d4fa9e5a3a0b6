// Package send is the sending engine: offer, answer, lanes, verify, commit. Each
// step has a file of its name, as in pkg/recv.
//
//	src, err := source.Scan(ctx, source.Config{Roots: paths})
//	res, err := send.Send(ctx, send.Config{Receiver: client, DialLane: client.DialLane, Source: src})
//
// [New] and [Transfer.Run] do the same for callers that change the limit while it
// runs. Cancelling the context stops everything within moments; what the receiver
// has stays there, and running the same id again resumes.
//
// # Sessions
//
// A session is one pass through the five steps. When the receiver cannot be
// reached, restarts, is busy or its lanes do not work, the engine begins another
// session with the same id, after a pause that doubles up to 5 s (or as long as
// the receiver asked for), until Retries or Timeout are used up without anything
// moving forward. Refusals of every other kind are final. Nothing outside the
// engine should retry.
//
// # Lanes
//
// All lanes pull from one queue: up to 8 MiB of one large file, or up to 256 small
// files that travel in one write. A lane reads acknowledgements while it writes;
// a lane that dies gives back what was not acknowledged and is dialled again
// while the others go on. At the end of a transfer spans shrink, and a lane that
// would hold the end (silent, or four times slower than the fastest) is replaced.
// At most 32 MiB are unacknowledged on a lane.
//
// The hello is not waited for: frames follow it at once, which saves a round
// trip. Only after a lane was cut before its hello was accepted does the next one
// wait, so as to hear why.
//
// # What is hashed
//
// Every chunk, by the lane that sends it, while it is in the cache; what the
// receiver held before is read and hashed beside. A chunk that is read twice must
// hash the same, else the source is Changed. With digest none nothing is read by
// this process at all: the kernel copies (sendfile).
//
// # Memory
//
// A lane has a buffer of 1.25 MiB, a stream 24 MiB, each entry 32 octets for its
// hash (16 with xxh3) and each further chunk of a large file as many. Nothing
// else grows.
//
// # Why a lane reads, hashes and writes in one goroutine
//
// A pipeline of goroutines moves each octet through more caches and gains nothing
// once there are as many lanes as cores. Waiting is hidden by the other lanes.
//
// # Why the sender does not abort on an error
//
// A file that changed or could not be read costs one file to send again, not the
// whole. The receiver cleans up what nobody resumes.
package send
