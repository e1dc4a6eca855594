package recipes

import (
	"context"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/etcdlock/etcdlock/fence"
)

// KafkaRecord is a record with its token. All records of a resource go to one partition, by their
// key.
func KafkaRecord(topic, resource string, value []byte, token fence.Token) *kgo.Record {
	return &kgo.Record{
		Topic: topic, Key: []byte(resource), Value: value,
		Headers: []kgo.RecordHeader{{Key: fenceKey, Value: []byte(token.String())}},
	}
}

// KafkaFilter drops stale records at a consumer, because a broker accepts each of them. Every consumer
// of a partition reads the same order, so all of them drop the same records. The seen tokens are
// state of the consumer: it stores them with its offsets, or reads the partition from the beginning.
type KafkaFilter struct{ Seen fence.Checker }

// Keep returns nil for a record to be used and a [*fence.Stale] for a stale one.
func (f KafkaFilter) Keep(ctx context.Context, record *kgo.Record) error {
	var token fence.Token
	for _, h := range record.Headers {
		if h.Key == fenceKey {
			var err error
			if token, err = fence.Parse(string(h.Value)); err != nil {
				return err
			}
		}
	}
	return f.Seen.Check(ctx, string(record.Key), token)
}
