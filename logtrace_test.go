package etcdlock

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// logText makes a logger of lines without a time, and without what differs from run to run.
func logText(level slog.Level) (logger *slog.Logger, lines func() string) {
	var out bytes.Buffer
	logger = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		switch a.Key {
		case slog.TimeKey:
			return slog.Attr{}
		case "lease", "token", "create_revision":
			return slog.String(a.Key, "*")
		}
		return a
	}}))
	return logger, func() string {
		text, _ := io.ReadAll(&out)
		return string(text)
	}
}

func TestLogTraceTellsOfACallThatWaits(t *testing.T) {
	simulateEven(t, func(w *world) {
		logger, lines := logText(slog.LevelDebug)
		s := w.session("a", WithTrace(LogTrace(logger)))
		theirs := w.lock(NewMutex(w.session("b"), "m"))
		wait := start(w, NewMutex(s, "m").Lock)
		w.pass(time.Second)
		require.Equal(w, `level=DEBUG msg="lock queued" name=m kind=mutex ahead=1`+"\n", lines())
		w.unlock(theirs.Unlock)
		w.unlock(wait.get().Unlock)
	})
}

// The lines say what each term of a Run ended by, and when its work had returned.
func TestLogTraceTellsWhyTheWorkOfATermHasEnded(t *testing.T) {
	simulateEven(t, func(w *world) {
		logger, lines := logText(slog.LevelInfo)
		s := w.session("a", WithTrace(LogTrace(logger)))
		theirs := w.session("b")
		var next *pending[*Term]
		terms := 0
		work := func(ctx context.Context, term *Term) error {
			time.Sleep(time.Minute)
			switch terms++; terms {
			case 1:
				return term.Resign(ctx)
			case 2:
				next = start(w, func(ctx context.Context) (*Term, error) { return NewElection(theirs, "e").Campaign(ctx, "B") })
				time.Sleep(time.Second)
				err := term.Transfer(ctx, "B")
				time.AfterFunc(time.Second, func() { _ = next.get().Resign(w.ctx) })
				return err
			case 3:
				w.DeleteKey(term.Key())
				<-ctx.Done()
				time.Sleep(2 * time.Minute)
				return nil
			default:
				return errors.New("the disk is full")
			}
		}
		err := NewElection(s, "e").Run(w.ctx, "A", work, WithStopTimeout(time.Minute))
		require.ErrorContains(w, err, "the disk is full")
		var got []string
		for line := range strings.Lines(lines()) {
			if strings.Contains(line, "msg=\"term") {
				got = append(got, regexp.MustCompile(`(led|after)=(\d+m)?[\d.]+m?s`).ReplaceAllString(strings.TrimSpace(line), "$1=$2*"))
			}
		}
		require.Equal(w, []string{
			`level=INFO msg="term ended" name=e token=* create_revision=* led=1m* reason=resigned`,
			`level=INFO msg="term ended" name=e token=* create_revision=* led=1m* reason=transferred`,
			`level=ERROR msg="term stuck" name=e token=* create_revision=* after=* error="lost: another client deleted its key"`,
			`level=WARN msg="term ended" name=e token=* create_revision=* led=3m* reason=evicted stopped_after=2m* error="lost: another client deleted its key"`,
			`level=WARN msg="term ended" name=e token=* create_revision=* led=1m* reason=failed returned="the disk is full"`,
		}, got)
	})
}
