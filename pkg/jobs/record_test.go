package jobs

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// full sets every field below v to something that is not zero, so that one that
// a record leaves out is found.
func full(v reflect.Value) {
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.Date(2026, 11, 27, 10, 0, 0, 123456789, time.UTC)))
		return
	case transfer.Digest:
		v.Set(reflect.ValueOf(transfer.Digest{Algorithm: transfer.SHA256, Sum: make([]byte, 32)}))
		return
	case transfer.ID:
		v.Set(reflect.ValueOf(transfer.NewID()))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			full(v.Field(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		full(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		full(v.Index(0))
		full(v.Index(1))
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		full(key)
		full(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString("<näme>\n")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(1<<31 - 1)
	case reflect.Uint8:
		v.SetUint(2)
	case reflect.Uint32:
		v.SetUint(1<<32 - 1)
	default:
		panic("a field of type " + v.Type().String())
	}
}

func fullJob() Job {
	var j Job
	full(reflect.ValueOf(&j).Elem())
	return j
}

func TestRecordKeepsEveryField(t *testing.T) {
	odd := fullJob()
	odd.Spec.Sources[0].Path = "/not UTF-8: \xff"
	odd.Receipt.Files[0].Digest = transfer.Digest{Algorithm: transfer.None}
	many := Job{Spec: Spec{Sources: make([]Source, 200_000)}}
	for _, j := range []Job{{}, fullJob(), odd, many} {
		record, err := encode(&j)
		if err != nil {
			t.Fatal(err)
		}
		var got Job
		if err := decode(record, &got); err != nil || !reflect.DeepEqual(got, j) {
			t.Errorf("%.2000v came back as %.2000v: %v", j, got, err)
		}
		clear(record) // it lies in the file's mapping, which moves
		if !reflect.DeepEqual(got, j) {
			t.Error("what was read changed with the record")
		}
	}
}

// Formats 1 and 2 had JSON.
func TestRecordOfOlderFormat(t *testing.T) {
	j := fullJob()
	record, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	var got Job
	if err := decode(record, &got); err != nil || !reflect.DeepEqual(got, j) {
		t.Errorf("%v came back as %v: %v", j, got, err)
	}
}

func TestRecordThatIsTorn(t *testing.T) {
	j := fullJob()
	whole, err := encode(&j)
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		if decode(whole[:n], new(Job)) == nil {
			t.Errorf("%d of %d octets are read as a record", n, len(whole))
		}
	}
}
