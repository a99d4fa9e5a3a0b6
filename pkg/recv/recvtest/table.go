package recvtest

import (
	"os"
	"strings"
	"testing"
)

// table is the state table of docs/protocol.md.
type table struct {
	states []string
	rows   []row
}

type row struct {
	call  string
	cells map[string]string // by state
}

// readTable reads the table between its two markers.
func readTable(t *testing.T, doc string) table {
	t.Helper()
	var tab table
	for i, line := range Section(t, doc, "state table") {
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for j := range cells {
			cells[j] = strings.TrimSpace(cells[j])
		}
		switch i {
		case 0:
			tab.states = cells[1:]
		case 1: // the rule below the head
		default:
			if len(cells) != len(tab.states)+1 {
				t.Fatalf("row %q has %d cells, want %d", line, len(cells), len(tab.states)+1)
			}
			r := row{call: cells[0], cells: map[string]string{}}
			for j, s := range tab.states {
				r.cells[s] = cells[j+1]
			}
			tab.rows = append(tab.rows, r)
		}
	}
	return tab
}

// Section returns the lines of the document between "<!-- name: begin -->" and
// "<!-- name: end -->".
func Section(t *testing.T, doc, name string) []string {
	t.Helper()
	b, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(b), "<!-- "+name+": begin -->\n")
	body, _, ok2 := strings.Cut(rest, "<!-- "+name+": end -->")
	if !ok || !ok2 {
		t.Fatalf("%s has no section %q", doc, name)
	}
	return strings.Split(strings.TrimSpace(body), "\n")
}
