package cli

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// tracesEnd bounds how long the last spans may take to reach the collector.
const tracesEnd = 3 * time.Second

// Traces sets up OpenTelemetry by its standard variables: spans go nowhere
// unless OTEL_TRACES_EXPORTER, OTEL_EXPORTER_OTLP_ENDPOINT or
// OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set (and OTEL_SDK_DISABLED is not true).
// W3C trace context is passed on in any case. The exporter "console" writes to
// stderr, because standard output belongs to what a command answers. Stop sends
// what is left, for at most three seconds.
//
// The error is a Usage: a variable names an exporter that does not exist.
func Traces(ctx context.Context, service string, stderr io.Writer) (stop func(), err error) {
	otel.SetTextMapPropagator(propagation.TraceContext{})
	name := os.Getenv("OTEL_TRACES_EXPORTER")
	wanted := cmp.Or(name, os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT"), os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
	if wanted == "" || name == "none" || strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return func() {}, nil
	}
	var exporter sdktrace.SpanExporter
	if name == "console" {
		exporter, err = stdouttrace.New(stdouttrace.WithWriter(stderr))
	} else {
		exporter, err = autoexport.NewSpanExporter(ctx)
	}
	if err != nil {
		return nil, Usagef("set up traces by the variables OTEL_…: %w", err)
	}
	// The name is a default: OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win.
	res, err := resource.New(ctx, resource.WithTelemetrySDK(),
		resource.WithAttributes(attribute.String("service.name", "sluice-"+service), attribute.String("service.version", Version())), resource.WithFromEnv())
	if err != nil {
		return nil, errors.Join(Usagef("set up traces by the variables OTEL_…: %w", err), exporter.Shutdown(ctx))
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("traces", "err", err) }))
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(res))
	otel.SetTracerProvider(provider)
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tracesEnd)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			log.Warn("send the last spans", "err", err)
		}
	}, nil
}

const tracerName = "github.com/e27efefb/sluice/services"

// Span starts the span of a command; its parent is the caller's, if that set
// the variable TRACEPARENT (as CI systems do). A service has none of its own, nor has a health check.
func Span(ctx context.Context, program, command string) (context.Context, func(error)) {
	if command == "serve" || command == "healthcheck" {
		return ctx, func(error) {}
	}
	ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": os.Getenv("TRACEPARENT"), "tracestate": os.Getenv("TRACESTATE")})
	command, _, _ = strings.Cut(command, " <") // without the arguments
	ctx, span := otel.Tracer(tracerName).Start(ctx, program+" "+command)
	return ctx, func(err error) { EndSpan(span, err) }
}

// EndSpan ends a span, with the error if there is one.
func EndSpan(span trace.Span, err error) {
	if err != nil {
		span.RecordError(err)
		span.SetStatus(otelcodes.Error, message(err))
	}
	span.End()
}
