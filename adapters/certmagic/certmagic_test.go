package certmagiclock

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io/fs"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
)

// storage is the rest of a Storage: a map that all servers share.
type storage struct {
	*Locker
	*files
}

type files struct {
	mu sync.Mutex
	m  map[string][]byte
}

var (
	_ certmagic.Storage          = storage{}
	_ certmagic.TryLocker        = storage{}
	_ certmagic.LockLeaseRenewer = storage{}
)

func (f *files) Store(_ context.Context, key string, value []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.m[key] = value
	return nil
}

func (f *files) Load(_ context.Context, key string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if v, ok := f.m[key]; ok {
		return v, nil
	}
	return nil, fs.ErrNotExist
}

func (f *files) Delete(_ context.Context, key string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.m, key)
	return nil
}

func (f *files) Exists(_ context.Context, key string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.m[key]
	return ok
}

func (f *files) List(_ context.Context, path string, _ bool) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var keys []string
	for k := range f.m {
		if strings.HasPrefix(k, path+"/") {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

func (f *files) Stat(_ context.Context, key string) (certmagic.KeyInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v, ok := f.m[key]
	if !ok {
		return certmagic.KeyInfo{}, fs.ErrNotExist
	}
	return certmagic.KeyInfo{Key: key, Size: int64(len(v)), IsTerminal: true}, nil
}

// authority signs by itself, slowly, and counts.
type authority struct {
	mu     sync.Mutex
	issued int
}

func (a *authority) IssuerKey() string { return "authority" }

func (a *authority) Issue(_ context.Context, csr *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	time.Sleep(5 * time.Second)
	a.mu.Lock()
	a.issued++
	a.mu.Unlock()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: csr.DNSNames, NotBefore: time.Now(), NotAfter: time.Now().Add(90 * 24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, csr.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return &certmagic.IssuedCertificate{Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}, nil
}

// certmagic itself, on three servers that start at once.
func TestServersObtainACertificateOnce(t *testing.T) {
	simulate(t, func(w *world) {
		shared, ca := &files{m: make(map[string][]byte)}, &authority{}
		errs := make(chan error, 3)
		for _, server := range []string{"a", "b", "c"} {
			st := storage{New(w.session(server)), shared}
			cache := certmagic.NewCache(certmagic.CacheOptions{
				GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return nil, nil },
				Logger:           zap.NewNop(),
			})
			w.Cleanup(cache.Stop)
			cfg := certmagic.New(cache, certmagic.Config{Storage: st, Issuers: []certmagic.Issuer{ca}, Logger: zap.NewNop()})
			go func() { errs <- cfg.ObtainCertSync(w.Context(), "example.com") }()
		}
		for range 3 {
			require.NoError(w, <-errs)
		}
		require.Equal(w, 1, ca.issued)
		require.Empty(w, w.Keys(""))
	})
}
