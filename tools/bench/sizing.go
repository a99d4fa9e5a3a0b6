package main

import (
	"fmt"
	"strings"
	"time"
)

// sizing is how much is moved.
type sizing struct {
	big       int64   // octets of the one file
	small     int     // files of 4 KiB
	durable   int     // files of 4 KiB where durability counts
	wan       []int64 // octets over the link
	growFiles []int64 // octets of the files in the table of memory
	growTrees []int   // files of the trees there
	ext4      int64   // octets of the image
	goSource  string  // part of GOROOT
	pingTime  string  // go test's -benchtime
	services  serviceSizing
}

const smallFile = 4 << 10 // octets

func fullSizing() sizing {
	return sizing{
		big: 2e9, small: 20_000, durable: 100_000, wan: []int64{100e6, 800e6},
		growFiles: []int64{1e9, 4e9}, growTrees: []int{10_000, 100_000, 1_000_000},
		ext4: 8 << 30, goSource: "src", pingTime: "1s", services: fullServices(),
	}
}

// quickSizing is enough to see that everything works, for bench-smoke.
func quickSizing() sizing {
	return sizing{
		big: 50e6, small: 500, durable: 1000, wan: []int64{10e6, 20e6},
		growFiles: []int64{50e6, 100e6}, growTrees: []int{1000, 2000},
		ext4: 512 << 20, goSource: "src/net", pingTime: "50ms", services: quickServices(),
	}
}

// amountName is an amount as part of a case's name.
func amountName(n int64) string { return strings.ReplaceAll(amount(n), " ", "") }

func (s sizing) bigName() string     { return amountName(s.big) }
func (s sizing) smallName() string   { return fmt.Sprintf("%dx4KiB", s.small) }
func (s sizing) durableName() string { return fmt.Sprintf("%dx4KiB", s.durable) }

// wan is a link made by tools/wanlink.
type wan struct {
	rate int // Mbit/s
	rtt  time.Duration
	mtu  int
	loss float64 // share of packets, each direction
}

func (w wan) name() string { return fmt.Sprintf("wan/loss%g%%", w.loss*100) }
