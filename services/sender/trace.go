package main

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/e27efefb/sluice/pkg/jobs"
	"github.com/e27efefb/sluice/services/internal/cli"
)

// traceOf returns the W3C trace context of a submit, which is stored with the
// job: attempts belong to it, also after a restart.
func traceOf(ctx context.Context) map[string]string {
	carrier := propagation.MapCarrier{}
	otel.GetTextMapPropagator().Inject(ctx, carrier)
	if len(carrier) == 0 {
		return nil
	}
	return carrier
}

// startAttempt starts the span of one attempt at a job.
func startAttempt(ctx context.Context, j *jobs.Job) (context.Context, func(error)) {
	ctx = otel.GetTextMapPropagator().Extract(ctx, propagation.MapCarrier(j.Spec.Trace))
	ctx, span := otel.Tracer("github.com/e27efefb/sluice/services/sender").Start(ctx, "attempt", trace.WithAttributes(
		attribute.Stringer("sluice.job.id", j.ID), attribute.String("sluice.receiver", j.Spec.Receiver), attribute.Int("sluice.attempt", j.Attempts),
	))
	return ctx, func(err error) { cli.EndSpan(span, err) }
}
