package control

import (
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
)

func TestVersionIsTold(t *testing.T) {
	for _, version := range []string{"v1.2.3", ""} {
		s := serve(t, ServerConfig{Version: version}, viewOf(&fakeView{}), time.Second)
		got, err := s.dial(ClientConfig{}).Version(within(t))
		if got != version || (err != nil) != (version == "") {
			t.Errorf("version %q: got %q, %v", version, got, err)
		}
		if err != nil && transfer.KindOf(err) != transfer.NotFound {
			t.Errorf("no version: %v", err)
		}
	}
}
