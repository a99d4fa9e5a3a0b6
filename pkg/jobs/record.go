package jobs

import (
	"encoding/json"
	"fmt"
	"math"
	"sync"

	"github.com/fxamacker/cbor/v2"
)

// Records are CBOR (RFC 8949), maps with the names that JSON has: decoding JSON
// was more than half the time of a page of jobs, and CBOR takes a third of that.
// Those of formats 1 and 2 are JSON, which begins with a brace; a map of CBOR
// never does (0x7b begins a text). They stay so until the job changes.
type codec struct {
	enc cbor.EncMode
	dec cbor.DecMode
}

var codecs = sync.OnceValues(func() (*codec, error) {
	// Times are in indexes too, so they keep their nanoseconds; floats would not.
	enc, err := cbor.EncOptions{Time: cbor.TimeRFC3339NanoUTC}.EncMode()
	if err != nil {
		return nil, err
	}
	dec, err := cbor.DecOptions{
		UTF8:             cbor.UTF8DecodeInvalid,                    // paths are octets
		MaxArrayElements: math.MaxInt32, MaxMapPairs: math.MaxInt32, // what was stored must be readable
	}.DecMode()
	return &codec{enc, dec}, err
})

func encode(j *Job) ([]byte, error) {
	c, err := codecs()
	if err != nil {
		return nil, err
	}
	return c.enc.Marshal(j)
}

func decode(record []byte, j *Job) error {
	c, err := codecs()
	if err != nil {
		return err
	}
	if len(record) > 0 && record[0] == '{' {
		err = json.Unmarshal(record, j)
	} else {
		err = c.dec.Unmarshal(record, j)
	}
	if err != nil {
		return fmt.Errorf("read job record: %w", err)
	}
	return nil
}
