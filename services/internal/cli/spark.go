package cli

import (
	"strings"
	"time"
)

// Spark is the newest of a series of durations, drawn as a line of blocks from
// the least to the largest of those shown. The zero value shows 60 columns.
type Spark struct {
	// Width is how many are kept and shown; 0 means 60.
	Width int

	values []time.Duration // negative: a gap
}

const (
	sparkWidth = 60
	sparkGap   = '×'
)

// Add appends a duration.
func (s *Spark) Add(d time.Duration) { s.add(max(0, d)) }

// Gap appends something that has no duration, such as a lost ping.
func (s *Spark) Gap() { s.add(-1) }

func (s *Spark) add(d time.Duration) {
	width := s.Width
	if width <= 0 {
		width = sparkWidth
	}
	s.values = append(s.values, d)
	if extra := len(s.values) - width; extra > 0 {
		s.values = s.values[extra:]
	}
}

// String draws the line; gaps are shown as ×. It is empty when nothing was added.
func (s *Spark) String() string {
	blocks := []rune("▁▂▃▄▅▆▇█")
	least, most := time.Duration(-1), time.Duration(-1)
	for _, v := range s.values {
		if v < 0 {
			continue
		}
		if least < 0 || v < least {
			least = v
		}
		most = max(most, v)
	}
	var b strings.Builder
	for _, v := range s.values {
		switch {
		case v < 0:
			b.WriteRune(sparkGap)
		case most == least:
			b.WriteRune(blocks[0])
		default:
			b.WriteRune(blocks[int(float64(v-least)/float64(most-least)*float64(len(blocks)-1)+0.5)])
		}
	}
	return b.String()
}
