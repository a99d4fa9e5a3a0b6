// Package plain speaks the plain file protocol, the simplest way to move a
// file over TCP, and answers and asks over UDP. Programs of forty lines in any
// language can talk to it; examples/plain has both sides.
//
// # The file protocol
//
//	client                                   server
//	connect                             ──▶
//	the bare file name, no delimiter    ──▶
//	                                    ◀──  ok
//	the content                         ──▶
//	close, or half-close (FIN)          ──▶  publish
//	                                    ◀──  close (FIN)
//
// The name is what arrives until 20 ms (ServerConfig.NameGap) pass without a
// byte, at most 4,096 bytes. "ok" is exactly two bytes. Whatever the server
// refuses, at any moment, it refuses with one line "error: REASON\n" and a
// close. FIN publishes; a reset (RST) or a silence longer than the idle
// timeout discards.
//
// [Server] receives into a [Store], which decides on names, conflicts, space
// and durability. [Send] sends. Both take a context; cancelling it discards
// what is in flight, for Send by a reset.
//
// # Limits
//
// The length is undeclared. FIN says that the client closed, not that it was
// done: the kernel sends the same FIN for a client that was killed. Receipts
// carry a digest of what came, and only the client knows whether that is what
// it had. The protocol has no encryption, no identity and no word for success.
//
// A client that does not wait for ok is refused when its content arrives
// within the gap and breaks the rules for names, or arrives before ok was
// written, or when it closes before ok. It is not found out when its content
// is short, is all letters that a name may have, and comes within the gap; the
// two are then one name. A name whose segments are further apart than the gap
// is cut, and its rest becomes content.
//
// # Datagrams
//
// [Echo] answers each datagram to its source, simple (one loop) or concurrent
// (one reader, a bounded pool). [Talk] sends lines and prints what arrives.
// Echo is safe to leave open: a reply is as long as its request, ports that
// answer by themselves get none, each source and all together are limited, and
// a packet that goes round between two echo servers is dropped after 256
// rounds. A reply leaves from the address that was asked.
//
// # Why
//
// Why is the longest silent connection evicted, and not the newcomer refused?
// Because a silent connection costs its owner nothing, and a thousand of them
// would keep everybody out. One that is receiving content is never evicted.
//
// Why does the server look into its socket before it says ok? Because bytes
// that are there already were sent by a client that does not wait, and would
// be taken for content that lacks its beginning.
//
// Why does content pass through a buffer and not through splice(2)? Because
// the store hashes it, and hashing 256 KiB that are hot in the cache is
// cheaper than reading them again.
package plain
