package slogcore

import (
	"bytes"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// written is what a JSON handler makes of entries, without the time.
func written(level slog.Level, log func(*zap.Logger), opts ...zap.Option) string {
	var b bytes.Buffer
	h := slog.NewJSONHandler(&b, &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	log(zap.New(New(h), opts...))
	return b.String()
}

func TestLevelsAreThoseOfSlog(t *testing.T) {
	all := func(l *zap.Logger) {
		l.Debug("d")
		l.Info("i")
		l.Warn("w")
		l.Error("e")
	}
	require.Equal(t, `{"level":"DEBUG","msg":"d"}
{"level":"INFO","msg":"i"}
{"level":"WARN","msg":"w"}
{"level":"ERROR","msg":"e"}
`, written(slog.LevelDebug, all))
	require.Equal(t, "{\"level\":\"WARN\",\"msg\":\"w\"}\n{\"level\":\"ERROR\",\"msg\":\"e\"}\n", written(slog.LevelWarn, all))
	require.Equal(t, []slog.Level{-5, -4, 0, 4, 8, 9, 10, 11}, []slog.Level{
		levelOf(-2), levelOf(zapcore.DebugLevel), levelOf(zapcore.InfoLevel), levelOf(zapcore.WarnLevel), levelOf(zapcore.ErrorLevel),
		levelOf(zapcore.DPanicLevel), levelOf(zapcore.PanicLevel), levelOf(zapcore.FatalLevel),
	})
}

func TestFieldsKeepTheirTypes(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	require.JSONEq(t, `{"level":"INFO","msg":"m","logger":"a.b","s":"x","n":7,"u":8,"f":1.5,"ok":true,"d":1500000000,"at":"2026-01-02T03:04:05Z",
		"error":"broken","why":"late","list":["x","y"],"any":{"K":1},"bin":"AQI=","object":{"inner":3,"deep":{"x":"y"}}}`,
		written(slog.LevelInfo, func(l *zap.Logger) {
			l.Named("a").Named("b").Info("m", zap.String("s", "x"), zap.Int("n", 7), zap.Uint32("u", 8), zap.Float64("f", 1.5), zap.Bool("ok", true),
				zap.Duration("d", 1500*time.Millisecond), zap.Time("at", at), zap.Error(errors.New("broken")), zap.NamedError("why", errors.New("late")),
				zap.Strings("list", []string{"x", "y"}), zap.Any("any", struct{ K int }{1}), zap.Binary("bin", []byte{1, 2}), zap.Skip(), zap.Error(nil),
				zap.Object("object", zapcore.ObjectMarshalerFunc(func(e zapcore.ObjectEncoder) error {
					e.AddInt("inner", 3)
					return e.AddObject("deep", zapcore.ObjectMarshalerFunc(func(e zapcore.ObjectEncoder) error { e.AddString("x", "y"); return nil }))
				})))
		}))
}

// A handler may ask what an error is.
func TestAnErrorStaysAnError(t *testing.T) {
	broken := errors.New("broken")
	require.Equal(t, []slog.Attr{slog.Any("error", broken)}, attr(zap.Error(broken)))
}

func TestNamespacesAreGroups(t *testing.T) {
	require.JSONEq(t, `{"level":"INFO","msg":"m","a":1,"g":{"b":2,"h":{"c":3,"i":{"d":4}}}}`,
		written(slog.LevelInfo, func(l *zap.Logger) {
			l.With(zap.Int("a", 1), zap.Namespace("g"), zap.Int("b", 2), zap.Namespace("h")).
				With(zap.Int("c", 3)).Info("m", zap.Namespace("i"), zap.Int("d", 4))
		}))
}

func TestTheSourceAndTheStackAreThoseOfTheCall(t *testing.T) {
	var b bytes.Buffer
	l := zap.New(New(slog.NewJSONHandler(&b, &slog.HandlerOptions{AddSource: true})), zap.AddCaller(), zap.AddStacktrace(zapcore.ErrorLevel))
	l.Error("m")
	require.Contains(t, b.String(), "slogcore_test.go")
	require.Contains(t, b.String(), `"stack":"`)
}
