//go:build !linux

// Command wanlink emulates a wide-area link between two network namespaces,
// which only Linux has; elsewhere it says so.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "wanlink: needs Linux: it joins network namespaces over TUN devices")
	os.Exit(1)
}
