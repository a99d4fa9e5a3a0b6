package main

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/e27efefb/sluice/services/internal/reference"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestVariables(t *testing.T) {
	reference.CheckVariables(t, &grammar{}, "receiver", "SLUICE_DIR", "SLUICE_TOKENS")
}

func TestCommandsDocument(t *testing.T) { reference.Check(t, &grammar{}, "receiver") }

func TestHelpFits(t *testing.T) {
	reference.CheckHelp(t, func() any { return &grammar{} }, "receiver", description)
}
