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
)

// WriteTable prints connections as a table with one line each, as netstat -an
// does, with the kernel's view of the path behind. Nothing is printed for
// what is unknown but a dash.
func WriteTable(w io.Writer, conns []Conn) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "LOCAL\tREMOTE\tSTATE\tRECV-Q\tSEND-Q\tRTT\tCONGESTION\tCWND\tRETRANS\tRATE\tTRANSFER")
	for _, c := range conns {
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
		fmt.Fprintf(tw, "%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\n", c.Local, remote(c.Remote), c.State, c.RecvQueue, c.SendQueue,
			rtt, congestion, window, again, rate, orDash(c.Label))
	}
	return tw.Flush()
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
