// Command soak shows with real processes what the ping is for, and prints the
// figures:
//
//	soak [-pings 10m] [-size 67108864] [-bin bin] [-only freeze,udp,vanish,pings]
//
// A receiver and a sender service run in two network namespaces that are joined
// by tools/wanlink.
//
//	freeze   the receiver gets SIGSTOP in mid-transfer; how long until the sender
//	         says so (goal: 1 s), and does the transfer finish after SIGCONT with
//	         an equal digest
//	udp      UDP is dropped in mid-transfer: is that said, and the transfer untouched
//	vanish   everything towards the receiver is dropped; how long until the
//	         sender says so (goal: 3 s), and does the transfer finish afterwards
//	pings    pings alone over 80 ms of round trip and 5 % of loss: nobody is called
//	         dead, and the loss that is reported agrees with what the link dropped
//
// It exits 1 when something did not happen, and says which goal of time was
// missed: a loaded machine misses goals, so they are no failures. It needs root,
// iproute2, iptables and /dev/net/tun, and Linux.
package main
