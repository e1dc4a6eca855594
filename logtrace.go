package etcdlock

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/etcdlock/etcdlock/internal/telemetry"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// LogTrace returns a trace that writes one line to logger for each grant, for each end of a hold, and
// for each end of the work of an [Election.Run]. It is for an audit trail, because a busy session writes
// many lines.
//
//   - "lock queued", at Debug: a call has to wait. It has ahead.
//   - "lock granted", at Info. It has waited and path.
//   - "lock ended", at Info, or Warn for a hold that was lost. It has held and cause, and error unless
//     it was a release.
//   - "term ended", at Info, or Warn after a loss or a fault: the function of a Run has returned. It has
//     led and reason. If the function was told to stop, it has stopped_after, and error says why. If
//     the function returned an error, it has returned.
//   - "term stuck", at Error: the function of a Run has not returned in time. It has after and error.
//
// The lines of holds have the attributes name (or names), kind, token, create_revision and lease, and
// those of terms have name, token and create_revision. To find one hold in the logs of several
// processes, compare name and create_revision.
//
// The reason of "term ended" is "returned" or "failed" if the function returned nil or an error without
// having been told to stop, "resigned" or "transferred" if it did so, and otherwise the word of
// [ErrorType] for why it was told to stop, such as "evicted", "unhealthy" or "expired".
func LogTrace(logger *slog.Logger) *Trace {
	return &Trace{
		Queued: func(ctx context.Context, q QueuedInfo) {
			if logger.Enabled(ctx, slog.LevelDebug) {
				logger.LogAttrs(ctx, slog.LevelDebug, "lock queued",
					nameAttr(q.Name, q.Names), slog.String("kind", q.Kind.String()), slog.Int("ahead", q.Ahead))
			}
		},
		AcquireEnd: func(ctx context.Context, e AcquireEndInfo) {
			if e.Err == nil {
				logger.LogAttrs(ctx, slog.LevelInfo, "lock granted",
					append(e.Hold.attrs(), slog.Duration("waited", round(e.Waited)), slog.String("path", e.Path.String()))...)
			}
		},
		HoldEnd: func(ctx context.Context, e HoldEndInfo) {
			level := slog.LevelInfo
			if errors.Is(e.Cause, ErrLost) {
				level = slog.LevelWarn
			}
			attrs := append(e.Hold.attrs(), slog.Duration("held", round(e.Held)), slog.String("cause", ErrorType(e.Cause)))
			if !errors.Is(e.Cause, ErrReleased) {
				attrs = append(attrs, slog.String("error", e.Cause.Error()))
			}
			logger.LogAttrs(ctx, level, "lock ended", attrs...)
		},
		TermEnd: func(ctx context.Context, e TermEndInfo) { logTermEnd(ctx, logger, e) },
		Stuck: func(ctx context.Context, s StuckTerm) {
			logger.LogAttrs(ctx, slog.LevelError, "term stuck", append(termAttrs(s.Term.Name(), s.Term.Token(), s.Term.CreateRevision()),
				slog.Duration("after", round(s.After)), slog.String("error", s.Cause.Error()))...)
		},
	}
}

func logTermEnd(ctx context.Context, logger *slog.Logger, e TermEndInfo) {
	level, reason := slog.LevelInfo, telemetry.TermEnd(e.Told, e.Lost, e.Err, ErrorType)
	attrs := append(termAttrs(e.Election, e.Token, e.CreateRevision), slog.Duration("led", round(e.Led)), slog.String("reason", reason))
	if e.Told != nil && !errors.Is(e.Told, ErrReleased) {
		attrs = append(attrs, slog.Duration("stopped_after", round(e.Stop)), slog.String("error", e.Told.Error()))
	}
	if e.Err != nil {
		attrs = append(attrs, slog.String("returned", e.Err.Error()))
	}
	why := e.Told
	if why == nil {
		why = e.Lost
	}
	if why == nil && e.Err != nil || errors.Is(why, ErrLost) || errors.Is(why, ErrUnhealthy) || errors.Is(why, ErrNoProgress) {
		level = slog.LevelWarn
	}
	logger.LogAttrs(ctx, level, "term ended", attrs...)
}

func termAttrs(name string, token, createRevision int64) []slog.Attr {
	return []slog.Attr{slog.String("name", name), slog.Int64("token", token), slog.Int64("create_revision", createRevision)}
}

func (h *HoldInfo) attrs() []slog.Attr {
	return []slog.Attr{
		nameAttr(h.Name, h.Names), slog.String("kind", h.Kind.String()), slog.Int64("token", h.Token),
		slog.Int64("create_revision", h.CreateRevision), slog.String("lease", wire.Hex(h.Lease)),
	}
}

func nameAttr(name string, names []string) slog.Attr {
	if names != nil {
		return slog.Any("names", names)
	}
	return slog.String("name", name)
}

// round drops digits that no reader of a log needs.
func round(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }
