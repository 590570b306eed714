// Package tap writes the Test Anything Protocol. The validation suite of the runtime-spec imports a package of that name which Debian has not; this has the
// part of its face that the suite calls.
package tap

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// T counts the claims of one test program.
type T struct {
	Writer io.Writer
	count  *int
	isTodo bool
}

// New gives a counter that writes to stdout.
func New() *T {
	return &T{Writer: os.Stdout, count: new(int)}
}

// Header begins the output; with 0 the number of claims is told by AutoPlan.
func (t *T) Header(claims int) {
	fmt.Fprintln(t.Writer, "TAP version 13")
	if claims > 0 {
		fmt.Fprintf(t.Writer, "1..%d\n", claims)
	}
}

// AutoPlan tells how many claims there were.
func (t *T) AutoPlan() {
	fmt.Fprintf(t.Writer, "1..%d\n", *t.count)
}

// Ok is one claim.
func (t *T) Ok(holds bool, description string) {
	word := "ok"
	if !holds {
		word = "not ok"
	}
	suffix := ""
	if t.isTodo {
		// A directive of the protocol: the claim may fail.
		suffix = " # TODO"
	}
	t.line(word, description+suffix)
}

// Pass is a claim that holds.
func (t *T) Pass(description string) { t.Ok(true, description) }

// Fail is a claim that does not.
func (t *T) Fail(description string) { t.Ok(false, description) }

// Skip is claims that were not looked at.
func (t *T) Skip(claims int, reason string) {
	for ; claims > 0; claims-- {
		t.line("ok", "# SKIP "+reason)
	}
}

// Todo gives the same counter, whose claims may fail.
func (t *T) Todo() *T {
	return &T{Writer: t.Writer, count: t.count, isTodo: true}
}

// Diagnostic is a remark.
func (t *T) Diagnostic(message string) {
	fmt.Fprintf(t.Writer, "# %s\n", strings.ReplaceAll(message, "\n", "\n# "))
}

// Diagnosticf is a remark made by a format.
func (t *T) Diagnosticf(format string, values ...interface{}) {
	t.Diagnostic(fmt.Sprintf(format, values...))
}

// YAML is a document about the claim before; JSON is YAML.
func (t *T) YAML(value interface{}) error {
	text, err := json.MarshalIndent(value, "  ", "  ")
	if err != nil {
		return err
	}
	fmt.Fprintf(t.Writer, "  ---\n  %s\n  ...\n", text)
	return nil
}

func (t *T) line(word, description string) {
	*t.count++
	fmt.Fprintf(t.Writer, "%s %d - %s\n", word, *t.count, description)
}
