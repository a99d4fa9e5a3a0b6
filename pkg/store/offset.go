package store

import (
	"bufio"
	"io"
)

// offsetReader reads from a place and knows how far it came.
type offsetReader struct {
	*bufio.Reader
	count *counter
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func newOffsetReader(f io.ReaderAt, off int64) offsetReader {
	c := &counter{r: io.NewSectionReader(f, off, 1<<62-off), n: off}
	return offsetReader{bufio.NewReaderSize(c, 64<<10), c}
}

// off is the place of the next octet.
func (r offsetReader) off() int64 { return r.count.n - int64(r.Buffered()) }
