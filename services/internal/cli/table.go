package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Column is a column of a table.
type Column struct {
	Head string

	// Drop is the column's place among those that are left out where a table is
	// too wide: the highest goes first; 0 stays.
	Drop int

	// Min is how many columns of the terminal the cells may be cut to (Shorten)
	// where a table is too wide; 0: they are never cut.
	Min int
}

// Table prints rows in columns, two spaces apart, below a line with their heads.
// A column is as wide as its widest cell, the last is never padded. Where that is
// wider than width, columns go until the rest fits with what may be cut at its
// narrowest, and then that is cut no more than it has to be.
func Table(w io.Writer, width int, columns []Column, rows [][]string) error {
	widths := make([]int, len(columns))
	for i, c := range columns {
		widths[i] = utf8.RuneCountInString(c.Head)
		for _, r := range rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(r[i]))
		}
	}
	kept := fit(columns, widths, width)
	var b strings.Builder
	line := func(cell func(i int) string) {
		for at, i := range kept {
			c := Shorten(cell(i), widths[i])
			b.WriteString(c)
			if at < len(kept)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c)+gap))
			}
		}
		b.WriteByte('\n')
	}
	line(func(i int) string { return columns[i].Head })
	for _, r := range rows {
		line(func(i int) string { return r[i] })
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// gap is the number of spaces between two columns.
const gap = 2

// fit returns the columns that are shown, in order, and lowers the widths of
// those that are cut.
func fit(columns []Column, widths []int, width int) []int {
	kept := make([]int, len(columns))
	for i := range kept {
		kept[i] = i
	}
	narrowest := func(i int) int {
		if m := columns[i].Min; m > 0 {
			return min(widths[i], max(m, utf8.RuneCountInString(columns[i].Head)))
		}
		return widths[i]
	}
	total := func(of func(i int) int) int {
		n := gap * (len(kept) - 1)
		for _, i := range kept {
			n += of(i)
		}
		return n
	}
	for total(narrowest) > width {
		next := slices.MaxFunc(kept, func(a, b int) int { return columns[a].Drop - columns[b].Drop })
		if columns[next].Drop == 0 {
			break
		}
		kept = slices.DeleteFunc(kept, func(i int) bool { return i == next })
	}
	for _, i := range kept {
		over := total(func(i int) int { return widths[i] }) - width
		widths[i] -= min(max(over, 0), widths[i]-narrowest(i))
	}
	return kept
}

const (
	// columnsByDefault is what a terminal has that does not say.
	columnsByDefault = 80
	// unlimited is for what is no terminal: a program is to find whole names there.
	unlimited = math.MaxInt32
)

// Width returns how many columns a table on w may have: what the variable COLUMNS
// says (POSIX.1-2017, section 8.3), else what the terminal has, else 80. What is no
// terminal (a pipe, a file) has no limit.
func Width(w io.Writer) int {
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		return n
	}
	if !IsTerminal(w) {
		return unlimited
	}
	if n := terminalColumns(w.(*os.File)); n > 0 { //nolint:forcetypeassert // a terminal is a file
		return n
	}
	return columnsByDefault
}

// JSONLine writes v as one line.
func JSONLine(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// Shorten cuts s to n runes, keeping the end, which tells paths apart.
func Shorten(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return "…" + string(r[len(r)-n+1:])
}
