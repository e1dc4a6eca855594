// Package slogcore writes zap's entries to a handler of log/slog. The fields keep their types and
// groups as far as slog has them.
package slogcore

import (
	"context"
	"log/slog"
	"slices"
	"strings"

	"go.uber.org/zap/zapcore"
)

// LoggerKey is the attribute with the name of the zap logger.
const LoggerKey = "logger"

// New returns a core that writes to a handler. The handler decides by itself which levels it
// takes.
func New(handler slog.Handler) zapcore.Core { return &core{handler: handler} }

// core is a handler with the fields that With has added. A zap.Namespace opens a group for all
// fields behind it, which is WithGroup of the handler.
type core struct{ handler slog.Handler }

func (c *core) Enabled(level zapcore.Level) bool {
	return c.handler.Enabled(context.Background(), levelOf(level))
}

func (c *core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c *core) With(fields []zapcore.Field) zapcore.Core {
	h := c.handler
	for {
		i := slices.IndexFunc(fields, isNamespace)
		if i < 0 {
			break
		}
		h = with(h, attrs(fields[:i])).WithGroup(fields[i].Key)
		fields = fields[i+1:]
	}
	return &core{with(h, attrs(fields))}
}

func with(h slog.Handler, all []slog.Attr) slog.Handler {
	if len(all) == 0 {
		return h
	}
	return h.WithAttrs(all)
}

func (c *core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	var pc uintptr
	if e.Caller.Defined {
		pc = e.Caller.PC
	}
	r := slog.NewRecord(e.Time, levelOf(e.Level), e.Message, pc)
	if e.LoggerName != "" {
		r.AddAttrs(slog.String(LoggerKey, e.LoggerName))
	}
	r.AddAttrs(grouped(fields)...)
	if e.Stack != "" {
		r.AddAttrs(slog.String("stack", e.Stack))
	}
	return c.handler.Handle(context.Background(), r)
}

// Sync does nothing: a handler has nothing of the kind.
func (c *core) Sync() error { return nil }

// levelOf is the level of slog. Those above error, which slog does not name, keep their order.
func levelOf(l zapcore.Level) slog.Level {
	switch {
	case l < zapcore.DebugLevel:
		return slog.LevelDebug + slog.Level(l-zapcore.DebugLevel)
	case l <= zapcore.ErrorLevel:
		return slog.Level(4 * l) // debug -4, info 0, warn 4, error 8
	default:
		return slog.LevelError + slog.Level(l-zapcore.ErrorLevel)
	}
}

func isNamespace(f zapcore.Field) bool { return f.Type == zapcore.NamespaceType }

// grouped are the attributes of fields, of which those behind a namespace are a group.
func grouped(fields []zapcore.Field) []slog.Attr {
	i := slices.IndexFunc(fields, isNamespace)
	if i < 0 {
		return attrs(fields)
	}
	return append(attrs(fields[:i]), slog.Attr{Key: fields[i].Key, Value: slog.GroupValue(grouped(fields[i+1:])...)})
}

func attrs(fields []zapcore.Field) []slog.Attr {
	all := make([]slog.Attr, 0, len(fields))
	for _, f := range fields {
		all = append(all, attr(f)...)
	}
	return all
}

// attr is a field as slog has it. An error stays an error, so that handlers can tell; what has a
// form of its own in zap is written as zap's JSON has it.
func attr(f zapcore.Field) []slog.Attr {
	switch f.Type {
	case zapcore.SkipType:
		return nil
	case zapcore.ErrorType:
		return []slog.Attr{slog.Any(f.Key, f.Interface)}
	default:
	}
	enc := zapcore.NewMapObjectEncoder()
	f.AddTo(enc)
	all := make([]slog.Attr, 0, len(enc.Fields)) // one; more of an object that is inlined
	for key, value := range enc.Fields {
		all = append(all, slog.Attr{Key: key, Value: valueOf(value)})
	}
	slices.SortFunc(all, func(a, b slog.Attr) int { return strings.Compare(a.Key, b.Key) })
	return all
}

func valueOf(v any) slog.Value {
	object, ok := v.(map[string]any)
	if !ok {
		return slog.AnyValue(v)
	}
	group := make([]slog.Attr, 0, len(object))
	for key, value := range object {
		group = append(group, slog.Attr{Key: key, Value: valueOf(value)})
	}
	slices.SortFunc(group, func(a, b slog.Attr) int { return strings.Compare(a.Key, b.Key) })
	return slog.GroupValue(group...)
}
