// Command bench measures transfers with the built sender and receiver beside
// what people would use instead, in one run and in turn, and writes
// docs/performance.md. `make bench` runs it; `make bench-smoke` runs it in a
// minute on small amounts, to see that every measurement still works.
//
//	bench [-rounds 5] [-only REGEXP] [-quick] [-o FILE] [flags]
//
// Each contender is real processes, one at either end: the receiving one is
// started and ready before the clock runs; then the sending one is started, and
// the clock stops when it has ended, start-up and set-up of connections
// included. A round runs all contenders of a case one after another; the next
// round begins with another of them. What arrived is compared with what was
// sent: its contents after the first round, names and sizes after each.
//
// # Places
//
// tmpfs is memory to memory over loopback. ext4 is a loop-mounted image on a
// real disk (made when root, or a directory given by -ext4-dir) with the source
// in memory: there each contender has to have the data on stable storage when
// it ends. wan is two network namespaces joined by tools/wanlink, and needs
// root.
//
// # Memory
//
// A virtual machine gives free memory back to its host after some seconds, and
// pays when it takes it again: 2 GB written into memory after a pause of six
// seconds took 2.3 to 2.8 s, and again at once 0.7 to 0.9 s. That is more than most
// contenders differ by, so before each run as much memory as the work has octets
// is touched and given back.
//
// # Figures
//
// CPU is user and system time of all processes of an end, from wait4 (with
// what they waited for), less what the receiving end used before the clock ran,
// in ticks of 10 ms. Memory is VmHWM, the largest of an end's processes,
// sampled every 50 ms, and ru_maxrss of wait4 where that is larger than this
// process, which it inherits. A speed is in units of 10⁶ octets a second.
//
// # Services
//
// The sections services/… start `sender serve` and `receiver serve` and call
// them by gRPC as other programs do, 64 callers on connections and loopback
// addresses of their own: calls are limited for each address.
//
//   - submit: jobs one after another (median, p99) and from all callers at once,
//     each durable on a real disk when it is answered, while the only place for a
//     running job is taken; beside it a bare write and fdatasync. Then the
//     memory of the sender with 10,000 queued jobs.
//   - ended: jobs a second from submit to receipt, both ends on the real disk.
//   - at-once: 1,000 transfers, each held back by its rate limit until all have a
//     lane, then let go. Peak memory of the receiver.
//   - pages: pages of 100 of 100,000 finished jobs, by each kind of filter, also
//     of filters that match nothing.
//   - rpc: a call of the control plane without and with TLS, and an echo over a
//     bare TCP connection, in turn.
//
// tls/… is a place like tmpfs where one big file moves without TLS, with TLS,
// and with --data-plain.
//
// # Limits
//
// A run that takes longer than -limit is stopped, counted as that, and not
// repeated. Everything that was made (processes, mounts, namespaces, files) is
// removed at the end, after SIGINT, SIGTERM and SIGHUP too. It measures on
// Linux only.
//
// # Why
//
// Ratios within one run, since absolute figures of a virtual machine drift by a
// factor of two within hours. A bare loop of the same system calls stands for
// what the machine could do at most; it runs as processes of its own, so that
// its CPU time is counted as that of the others.
package main
