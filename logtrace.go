package etcdlock

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// LogTrace returns a trace that writes one line to logger for each grant and one for each end of a
// hold. It is for an audit trail, because a busy session writes many lines. The level is Info, and
// Warn for a hold that was lost.
//
// Both lines have the attributes name (or names), kind, token, create_revision and lease. A grant
// also has waited and path. An end has held and cause, and error unless it was a release. To find one hold in the logs of
// several processes, compare name and create_revision.
func LogTrace(logger *slog.Logger) *Trace {
	return &Trace{
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
	}
}

func (h *HoldInfo) attrs() []slog.Attr {
	name := slog.String("name", h.Name)
	if h.Names != nil {
		name = slog.Any("names", h.Names)
	}
	return []slog.Attr{
		name, slog.String("kind", h.Kind.String()), slog.Int64("token", h.Token),
		slog.Int64("create_revision", h.CreateRevision), slog.String("lease", wire.Hex(h.Lease)),
	}
}

// round drops digits that no reader of a log needs.
func round(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }
