package cli

import (
	"io"
	"log/slog"
)

// LogFlags choose what a service logs, on standard error.
type LogFlags struct {
	LogLevel  slog.Level `help:"Least severe level to log: debug, info, warn, error." default:"info" placeholder:"LEVEL"`
	LogFormat string     `help:"Form of the log: text or json." enum:"text,json" default:"text"`
}

// Logger makes the logger that the flags describe.
func (f *LogFlags) Logger(w io.Writer) *slog.Logger {
	opts := &slog.HandlerOptions{Level: f.LogLevel}
	if f.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}
