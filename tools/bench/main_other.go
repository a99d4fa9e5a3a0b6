//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: measures on Linux only: it counts CPU time and memory by /proc")
	os.Exit(1)
}
