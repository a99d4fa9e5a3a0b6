// Package jobs is the sender service's durable queue: a job says that a
// transfer is to be made, survives every crash once Submit returned, and ends
// exactly once.
//
// # Use
//
// Open a Queue on one bbolt file, give it a Runner (which calls pkg/send), and
// Run it. Submit stores a job and returns; Get, List, Watch and Wait look;
// Cancel, Retry and Update change it. Everything is safe for concurrent use.
//
// # Life of a job
//
//	queued → running → succeeded | partial | failed | canceled
//	           ↓  ↑
//	          waiting   (a failure that can heal: unavailable, busy, no_space)
//
// A sender that is killed while a job runs finds it "running" at its next start
// and queues it again. The job's id is the transfer's id, the receiver's
// idempotency key: data that the receiver holds is not sent again, and a
// transfer that was committed before the crash returns its receipt, so nothing
// is published twice. Where a job may go to one of several receivers, the one that
// is about to commit is stored first (Live.Committing): after a crash nobody else
// gets the job before that one has answered.
//
// # Why one layer retries
//
// The queue alone repeats a transfer, with backoff and jitter; the engine is run
// with no retries of its own. Two layers would multiply their attempts and hide
// each other's deadlines.
//
// # Limits
//
// One process owns the file (bbolt locks it). Jobs queued are kept in memory as
// about 150 octets each; finished ones only on disk, until KeepFinished.
package jobs
