package source

import (
	"context"
	"io"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// Stream returns a source with one file of unknown size, named name, whose
// content is what r gives until its end. It can be read once: a transfer of it
// cannot be resumed by another run, nor repaired.
func Stream(name string, names transfer.Names, r io.Reader) (*Source, error) {
	if name == "" {
		return nil, transfer.Errorf(transfer.Invalid, "send standard input", "", "it has no name").WithHint("give it one with --as NAME")
	}
	if _, err := transfer.ParsePath(name, names); err != nil {
		return nil, err
	}
	_, cancel := context.WithCancel(context.Background())
	s := &Source{stream: r, cancel: cancel, done: make(chan struct{}), wake: make(chan struct{}), scanErr: io.EOF}
	close(s.done)
	s.m.dirs = []dirRecord{{root: &root{as: name}, parent: noDir}}
	s.m.devices = []uint64{0}
	s.m.add(record{size: transfer.UnknownSize, perm: 0o644}, "-")
	s.counts = Counts{Files: 1, Bytes: transfer.UnknownSize}
	return s, nil
}

// Stream returns the stream's reader, nil for files.
func (s *Source) Stream() io.Reader { return s.stream }
