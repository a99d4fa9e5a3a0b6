package netdiag

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"
)

// WriteTable prints connections as a table with one line each, as netstat -an
// does, with the kernel's view of the path behind. Where that is wider than width
// columns, the view and the label go into a line of their own below each
// connection, as ss -i has it; 0 is any width. The ends of two connections by
// IPv6 can be wider than 80 columns all the same. What is unknown is a dash, or
// in the second line left out.
func WriteTable(w io.Writer, conns []Conn, width int) error {
	const ends = "LOCAL\tREMOTE\tSTATE\tRECV-Q\tSEND-Q"
	end := func(c *Conn) string {
		return fmt.Sprintf("%s\t%s\t%s\t%d\t%d", c.Local, remote(c.Remote), c.State, c.RecvQueue, c.SendQueue)
	}
	lines := []string{ends + "\tRTT\tCONGESTION\tCWND\tRETRANS\tRATE\tTRANSFER"}
	for i := range conns {
		lines = append(lines, end(&conns[i])+"\t"+strings.Join(path(&conns[i]), "\t"))
	}
	wide := aligned(lines)
	if width <= 0 || widest(wide) <= width {
		_, err := io.WriteString(w, wide)
		return err
	}
	lines = []string{ends}
	for i := range conns {
		lines = append(lines, end(&conns[i]))
	}
	var b strings.Builder
	for i, line := range strings.Split(strings.TrimSuffix(aligned(lines), "\n"), "\n") {
		b.WriteString(line + "\n")
		if i > 0 {
			b.WriteString(details(&conns[i-1], width))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// path has what the kernel and the label say of a connection: the cells from RTT on.
func path(c *Conn) []string {
	rtt, congestion, window, again, rate := "-", "-", "-", "-", "-"
	if i := c.Info; i != nil {
		rtt = duration(i.RTT)
		congestion = i.Congestion
		window = strconv.FormatUint(uint64(i.Window), 10)
		again = strconv.FormatUint(uint64(i.Retransmits), 10)
		if i.DeliveryRate > 0 {
			rate = Rate(float64(i.DeliveryRate))
		}
	}
	return []string{rtt, congestion, window, again, rate, orDash(c.Label)}
}

// details are the same in lines of at most width columns, the label first, or
// nothing where nothing is known.
func details(c *Conn, width int) string {
	const indent = "    "
	p := path(c)
	var b strings.Builder
	at := 0
	for i, item := range []string{p[5], "rtt " + p[0], p[1], "cwnd " + p[2], "retrans " + p[3], p[4]} {
		switch {
		case i == 0 && c.Label == "", i > 0 && c.Info == nil, i == 4 && p[3] == "0", i == 5 && p[4] == "-":
			continue
		}
		n := utf8.RuneCountInString(item)
		switch {
		case at > 0 && at+2+n <= width:
			b.WriteString("  " + item)
			at += 2 + n
			continue
		case at > 0:
			b.WriteByte('\n')
		}
		b.WriteString(indent + item)
		at = len(indent) + n
	}
	if at > 0 {
		b.WriteByte('\n')
	}
	return b.String()
}

// aligned puts the cells of lines, with tabs between them, two spaces apart.
func aligned(lines []string) string {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, line := range lines {
		fmt.Fprintln(tw, line)
	}
	_ = tw.Flush() // a builder takes everything
	return b.String()
}

// widest is the number of columns of the longest line.
func widest(text string) int {
	n := 0
	for line := range strings.Lines(text) {
		n = max(n, utf8.RuneCountInString(strings.TrimRight(line, "\n")))
	}
	return n
}

// WriteChange prints one change as a line: seconds since start, the ends, the
// states before and after, and the label.
func WriteChange(w io.Writer, start time.Time, c Change) error {
	line := fmt.Sprintf("%8.3f s  %-21s %-21s  %12s → %-12s  %s", c.At.Sub(start).Seconds(), c.Local, remote(c.Remote), c.From, c.State, c.Label)
	_, err := fmt.Fprintln(w, strings.TrimRight(line, " "))
	return err
}

// WriteJSON prints v, such as a []Conn, a Comparison or a Report, as indented
// JSON with a newline.
func WriteJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// Rate shows bytes a second in decimal units: "118 MB/s".
func Rate(bytesPerSecond float64) string { return Bytes(bytesPerSecond) + "/s" }

// Bytes shows a number of bytes in decimal units, three digits: "1.05 GB".
func Bytes(n float64) string {
	unit := 0
	units := []string{"B", "kB", "MB", "GB", "TB", "PB"}
	for n >= 999.5 && unit < len(units)-1 {
		n /= 1000
		unit++
	}
	digits := 0
	switch {
	case unit == 0:
	case n < 9.995:
		digits = 2
	case n < 99.95:
		digits = 1
	}
	return strconv.FormatFloat(n, 'f', digits, 64) + " " + units[unit]
}

// duration shows a time with three digits or so.
func duration(d time.Duration) string {
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= 10*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	default:
		return d.Round(time.Microsecond).String()
	}
}

func remote(a netip.AddrPort) string {
	if !a.IsValid() || a.Port() == 0 && a.Addr().IsUnspecified() {
		return "*"
	}
	return a.String()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
