package main

import (
	"bufio"
	"strconv"
	"strings"
)

// ping is one line of pkg/health's benchmark of reflectors.
type ping struct {
	name string  // reflector, and requests on their way at once
	rate float64 // replies a second, the median of the rounds
}

// parsePings reads the output of `go test -bench Replies -count N`: lines such
// as "BenchmarkReplies/plain/waiting=1-2  1000  950 ns/op  1052 replies/s".
func parsePings(out string) []ping {
	order, rates := []string{}, map[string][]float64{}
	s := bufio.NewScanner(strings.NewReader(out))
	for s.Scan() {
		f := strings.Fields(s.Text())
		if len(f) < 4 {
			continue
		}
		name, ok := strings.CutPrefix(f[0], "BenchmarkReplies/")
		if !ok {
			continue
		}
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			name = name[:i]
		}
		for i := 3; i < len(f); i += 2 {
			rate, err := strconv.ParseFloat(f[i-1], 64)
			if f[i] != "replies/s" || err != nil {
				continue
			}
			if rates[name] == nil {
				order = append(order, name)
			}
			rates[name] = append(rates[name], rate)
		}
	}
	var all []ping
	for _, name := range order {
		all = append(all, ping{name, median(rates[name])})
	}
	return all
}
