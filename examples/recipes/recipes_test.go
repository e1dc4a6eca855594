package recipes

import (
	"crypto/md5"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/fence"
)

var older, newer = fence.Token{Value: 1 << 53}, fence.Token{Value: 1<<53 + 1}

func TestRedis(t *testing.T) {
	server := miniredis.RunT(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer client.Close()
	require.NoError(t, SetRedis(t.Context(), client, "k", "a", older))
	require.NoError(t, SetRedis(t.Context(), client, "k", "b", older))
	require.NoError(t, SetRedis(t.Context(), client, "k", "c", newer))
	require.Equal(t, &fence.Stale{Resource: "k", Token: older, Seen: newer}, SetRedis(t.Context(), client, "k", "d", older))
	require.Equal(t, "c", server.HGet("k", "value"))
}

func TestFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "report")
	require.NoError(t, WriteFile(name, []byte("a"), older))
	require.NoError(t, WriteFile(name, []byte("b"), newer))
	require.Equal(t, &fence.Stale{Resource: name, Token: older, Seen: newer}, WriteFile(name, []byte("c"), older))
	require.NoError(t, WriteFile(name, []byte("d"), newer))
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Equal(t, "d", string(data))
	require.NoError(t, os.WriteFile(name+".fence", []byte("broken"), 0o600))
	require.ErrorIs(t, WriteFile(name, nil, newer), fence.ErrInvalid)
}

func TestKafka(t *testing.T) {
	filter := KafkaFilter{Seen: fence.NewMemory()}
	require.NoError(t, filter.Keep(t.Context(), KafkaRecord("t", "k", nil, older)))
	require.NoError(t, filter.Keep(t.Context(), KafkaRecord("t", "k", nil, newer)))
	require.ErrorIs(t, filter.Keep(t.Context(), KafkaRecord("t", "k", nil, older)), fence.ErrStale)
	record := KafkaRecord("t", "k", nil, older)
	record.Headers = nil
	require.ErrorIs(t, filter.Keep(t.Context(), record), fence.ErrInvalid)
}

// bucket is a store with the features of S3 that PutS3 needs, and of Cloud Storage that PutGCS
// needs. The former is an ETag, a hash of the content, with conditions. The latter is a generation
// with a condition.
type bucket struct {
	mu     sync.Mutex
	body   []byte
	fence  string
	etag   string
	writes int    // the generation of GCS
	before func() // runs once before the next PUT
}

func (b *bucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if b.before != nil && r.Method == http.MethodPut {
		before := b.before
		b.before = nil
		before()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	match := r.Header.Get("If-Match")
	generation := r.Header.Get("X-Goog-If-Generation-Match")
	switch {
	case r.Method == http.MethodHead && b.etag == "":
		w.WriteHeader(http.StatusNotFound)
	case r.Method == http.MethodHead:
		w.Header().Set("ETag", b.etag)
		w.Header().Set("X-Amz-Meta-Fence", b.fence)
		w.Header().Set("X-Goog-Meta-Fence", b.fence)
		w.Header().Set("X-Goog-Generation", strconv.Itoa(b.writes))
	case generation != "" && generation != strconv.Itoa(b.writes), match != "" && match != b.etag, r.Header.Get("If-None-Match") == "*" && b.etag != "":
		w.WriteHeader(http.StatusPreconditionFailed)
	default:
		b.body, _ = io.ReadAll(r.Body)
		b.writes++
		b.fence = r.Header.Get("X-Amz-Meta-Fence") + r.Header.Get("X-Goog-Meta-Fence")
		sum := md5.Sum(b.body)
		b.etag = `"` + hex.EncodeToString(sum[:]) + `"`
		w.Header().Set("ETag", b.etag)
	}
}

func TestS3(t *testing.T) {
	b := new(bucket)
	server := httptest.NewServer(b)
	defer server.Close()
	client := s3.New(s3.Options{
		BaseEndpoint: &server.URL, Region: "here", UsePathStyle: true, Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
	})
	put := func(data string, token fence.Token) error {
		return PutS3(t.Context(), client, "bucket", "k", []byte(data), token)
	}
	require.NoError(t, put("a", older))
	require.NoError(t, put("b", older))
	// The newer holder writes the same data between the two requests of the older one.
	b.before = func() { assert.NoError(t, put("b", newer)) }
	require.Equal(t, &fence.Stale{Resource: "k", Token: older, Seen: newer}, put("c", older))
	require.Equal(t, newer.String()+"\nb", string(b.body))
}

func TestGCS(t *testing.T) {
	b := new(bucket)
	server := httptest.NewServer(b)
	defer server.Close()
	url := server.URL + "/bucket/k"
	put := func(data string, token fence.Token) error {
		return PutGCS(t.Context(), server.Client(), url, []byte(data), token)
	}
	require.NoError(t, put("a", older))
	b.before = func() { assert.NoError(t, put("b", newer)) }
	require.Equal(t, &fence.Stale{Resource: url, Token: older, Seen: newer}, put("c", older))
	require.Equal(t, "b", string(b.body))
}
