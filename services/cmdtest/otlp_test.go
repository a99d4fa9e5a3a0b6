package cmdtest

import (
	"compress/gzip"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collector takes spans by OTLP over HTTP, as an OpenTelemetry collector does.
type collector struct {
	mu    sync.Mutex
	spans map[string]*exported // by span id
	bad   []string
}

type exported struct {
	service string
	*tracepb.Span
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := io.Reader(r.Body)
	var err error
	if r.Header.Get("Content-Encoding") == "gzip" {
		body, err = gzip.NewReader(r.Body)
	}
	var text []byte
	if err == nil {
		text, err = io.ReadAll(body)
	}
	var m collectorpb.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(text, &m)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil || r.Method != http.MethodPost || r.URL.Path != "/v1/traces" || r.Header.Get("X-Key") != "secret" {
		c.bad = append(c.bad, r.Method+" "+r.URL.Path)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	for _, rs := range m.GetResourceSpans() {
		service := ""
		for _, a := range rs.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				service = a.GetValue().GetStringValue()
			}
		}
		for _, ss := range rs.GetScopeSpans() {
			for _, s := range ss.GetSpans() {
				c.spans[hex.EncodeToString(s.GetSpanId())] = &exported{service, s}
			}
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// TestTraceReachesACollector: by the standard variables alone both services and
// the command export to one collector, and everything from the submit to the
// commit that gives the receipt is one trace across them.
func TestTraceReachesACollector(t *testing.T) {
	t.Parallel()
	c := &collector{spans: map[string]*exported{}}
	server := httptest.NewServer(c)
	defer server.Close()
	submitTraced(t, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + server.URL, "OTEL_EXPORTER_OTLP_HEADERS=x-key=secret"})
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.bad) > 0 {
		t.Errorf("the collector understood nothing of %v", c.bad)
	}
	var commit *exported
	for _, s := range c.spans {
		if s.service == "sluice-receiver" && s.GetName() == "sluice.v1.ReceiverService/Commit" {
			commit = s
		}
	}
	if commit == nil {
		t.Fatalf("no commit of the receiver among %d spans", len(c.spans))
	}
	// From the commit up to the command that submitted, through every process.
	var way []string
	for s := commit; s != nil; s = c.spans[hex.EncodeToString(s.GetParentSpanId())] {
		if string(s.GetTraceId()) != string(commit.GetTraceId()) {
			t.Errorf("%s of %s is in another trace", s.GetName(), s.service)
		}
		if s.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR {
			t.Errorf("%s of %s ended in an error", s.GetName(), s.service)
		}
		way = append(way, s.service+" "+s.GetName()+" "+s.GetKind().String())
	}
	want := []string{
		"sluice-receiver sluice.v1.ReceiverService/Commit SPAN_KIND_SERVER",
		"sluice-sender sluice.v1.ReceiverService/Commit SPAN_KIND_CLIENT",
		"sluice-sender attempt SPAN_KIND_INTERNAL",
		"sluice-sender sluice.v1.SenderService/SubmitTransfer SPAN_KIND_SERVER",
		"sluice-sender sluice.v1.SenderService/SubmitTransfer SPAN_KIND_CLIENT",
		"sluice-sender sender jobs submit SPAN_KIND_INTERNAL",
	}
	if !slices.Equal(way, want) {
		t.Errorf("the way from the commit to the submit is %q, want %q", way, want)
	}
}
