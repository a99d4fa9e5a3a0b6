// Package netdiag looks at the network as the operating system and a few
// measurements show it: the states of TCP connections, TCP beside UDP on one
// path, and a doctor that says what is wrong and what to do.
//
// # Use
//
// [Connections] lists the connections of some ports, [Watch] follows them, and
// [WriteTable], [WriteChange] and [WriteJSON] print them. [Compare] runs the
// measurements of a [Prober] and judges them. [Doctor] runs [Check]s in order
// and makes a [Report].
//
// Everything that takes time takes a context first and ends with it. Nothing
// needs privileges. Nothing is changed, on this machine or the far one.
//
// # Limits
//
// Connections shows the network namespace of the process. Linux tells
// everything; macOS and Windows list states only, without queues and TCP_INFO.
// Watch polls: it cannot see a state that begins and ends between two looks.
//
// # Why
//
// Why sock_diag(7) and not /proc/net/tcp? One reading brings states, TCP_INFO
// and the name of the congestion control together, in half a millisecond; the
// file has only states, and is slower with many sockets.
//
// Why are states polled and not traced? Tracing needs privileges. What polling
// misses is over too quickly to be the trouble that a person looks for.
//
// Why does Compare measure through an interface? The far side has to take part
// in moving bytes, and whoever talks to it is the caller: the measurements over
// gRPC, lanes and pings belong to the commands, the judging belongs here.
package netdiag
