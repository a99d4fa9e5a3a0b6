// Package health tells whether a receiver is alive and ready, how far away it is
// and how good the way to it is, by a UDP ping that follows STAMP (RFC 8762,
// RFC 8972; the packets are those of package stamp).
//
// # The parts
//
// [Reflector] answers pings in the receiver. It is stateless for strangers and
// stateful for sessions, which the control plane hands out by
// [Reflector.NewSession].
//
// [Pinger] sends them and computes a [Summary]; [Measure] does so a few times
// before a transfer, and [Path] turns it into timeouts and a first number of
// lanes.
//
// [Detector] decides: a state machine without clock or socket. [Group] knows the
// receivers that are watched together, [Choose] picks one of them.
//
// [Monitor] ties pinger and detector together for one receiver. An engine that
// sends does this and no more:
//
//	ctx, stop := monitor.Watch(ctx) // cancelled, with a cause, when the receiver is gone
//	defer stop()
//	…
//	monitor.Progress(n) // for each acknowledged chunk
//
// # States
//
//	          answer overdue           silence, gRPC silent, no data
//	Unknown ─────────────────▶ Suspect ─────────────────────────────▶ Dead
//	   │                        │ ▲ │                                  │ ▲
//	   │ reply            reply │ │ │ silence, but gRPC answers        │ │ gRPC silent,
//	   ▼                        ▼ │ │ or data moves                    ▼ │ no data
//	   └──────────────────▶ Alive ┘ └──────────────────────────▶ UDPBlocked
//
// A reply leads to Alive from everywhere. Each change is declared; so is a
// change of the incarnation in the receiver's status, which means that it was
// started again and has forgotten what it had in memory.
//
// Suspicion begins one RTO (50 ms to 1 s) after a ping that was not answered, and
// sends up to three fresh ones. Dead needs all of: a silence of at least 300 ms,
// three intervals, and an interval and four RTOs; no acknowledged chunk for as
// long; and a gRPC health check that fails too. Against a process that was
// stopped in the middle of a transfer this takes 0.7 s at up to 20 ms of round
// trip, 0.8 s at 80 ms and 1.4 s at 200 ms, as the tests' fake clock has it.
//
// # Cancellation and limits
//
// Run and Serve block until their context ends, then join all they started.
//
// A ping to another machine is sent every 10 ms at most, on loopback every 1 ms,
// and has 1,472 octets at most. A reflector answers one source 200 times a
// second, all strangers together 20,000 times, one session 1,000 times; it keeps
// 4,096 sessions and 2,048 sources, and no more state for anybody. Datagrams
// over 8,999 octets are not answered. Destination, TTL and kernel time stamps of
// datagrams are known on Linux only; elsewhere a reply leaves from the address
// that the routing table chooses, and hops are unknown.
//
// # What a stranger can do
//
// Without a session, and unless ReflectorConfig.Open is set, only loopback is
// answered. A reply is as long as its request, so nothing is amplified. What
// looks like a reply is not answered, nor are ports below 1,024, the reflector's
// own port and datagrams to many, so two reflectors cannot be made to answer
// each other. Sessions are authenticated by HMAC and protected against replay,
// and their rates are their own: a flood of strangers does not silence them. A
// pinger believes only what repeats the sequence and the exact timestamp of a
// ping of its own. A closed port, which anybody can forge, makes the detector
// look closer and proves nothing.
//
// # Why
//
// Why a ping at all? The kernel of a receiver that is stopped or stuck goes on
// acknowledging TCP: neither TCP nor its keepalive noticed anything in 12 s. A
// reflector in the same process falls silent at once.
//
// Why is silence not enough? Networks lose UDP, and some block it. A transfer
// whose chunks are acknowledged is never given up for the lack of a ping.
//
// Why does the detector forgive its own absence? A sender that was stopped, or
// got no processor, heard nothing either. When a deadline is missed by far, the
// silence begins anew.
//
// Why is the round trip taken from the monotonic clock? (T4-T1)-(T3-T2) needs
// no clock in common, but T4-T1 would be wrong by what NTP steps in between. The
// kernel's receive time stamp is used for its distance from now.
//
// Why does the reflector read one datagram at a time, and 32 only when they come
// faster than 40,000 a second? Measured on 2 cores over loopback: with one
// waiting at a time a batch is 3 % slower, with 64 waiting twice as fast (5 µs a
// packet against 10). Such rates are floods, of which most gets no answer; they
// then cost half the time.
package health
