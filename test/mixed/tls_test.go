package mixed

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/etcdproc"
)

// authority signs certificates for the time of a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	a.cert, a.key = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

func (a *authority) sign(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := template, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	require.NoError(a.t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(a.t, err)
	return cert, key
}

// issue makes a certificate of a name, for a server at 127.0.0.1 and for a client.
func (a *authority) issue(name string) (*x509.Certificate, *ecdsa.PrivateKey) {
	return a.sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
}

// config is that of a client with a certificate of a name, or without one.
func (a *authority) config(name string) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	cfg := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	if name != "" {
		cert, key := a.issue(name)
		cfg.Certificates = []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}
	}
	return cfg
}

func TestMutualTLSWithTheCertificatesNameAsTheUser(t *testing.T) {
	a := newAuthority(t)
	dir := t.TempDir()
	cert, key := a.issue("server")
	der, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	writePEM(t, filepath.Join(dir, "ca.pem"), "CERTIFICATE", a.cert.Raw)
	writePEM(t, filepath.Join(dir, "server.pem"), "CERTIFICATE", cert.Raw)
	writePEM(t, filepath.Join(dir, "server.key"), "EC PRIVATE KEY", der)
	w := newOwnWorld(t, etcdproc.Config{Size: 1, TLS: a.config("root"), Args: []string{
		"--client-cert-auth", "--trusted-ca-file", filepath.Join(dir, "ca.pem"),
		"--cert-file", filepath.Join(dir, "server.pem"), "--key-file", filepath.Join(dir, "server.key"),
	}})
	as := func(name string) *clientv3.Client { return w.clientOf(clientv3.Config{TLS: a.config(name)}) }
	ctx := w.ctx()
	for _, user := range []string{"root", "app"} {
		_, err := w.admin.UserAddWithOptions(ctx, user, "", &clientv3.UserAddOptions{NoPassword: true})
		require.NoError(t, err)
		_, err = w.admin.RoleAdd(ctx, user)
		require.NoError(t, err)
		_, err = w.admin.UserGrantRole(ctx, user, user)
		require.NoError(t, err)
	}
	_, err = w.admin.RoleGrantPermission(ctx, "app", w.base, clientv3.GetPrefixRangeEnd(w.base), clientv3.PermissionType(clientv3.PermReadWrite))
	require.NoError(t, err)
	_, err = w.admin.AuthEnable(ctx)
	require.NoError(t, err)

	name := w.name("lock")
	first := w.must(newOurMutex(w, as("app"), name))
	second := start(w.ctx(), newOurElection(w, as("app"), name, "b"))
	w.waitForKeys(name, 2)
	w.waits(second, ttl/2) // renewals come by
	w.release(first)
	w.release(w.granted(second))
	_, err = etcdlock.NewMutex(w.session(as("app")), "elsewhere").Lock(w.ctx())
	require.ErrorIs(t, err, rpctypes.ErrPermissionDenied)

	// Without a certificate there is no connection: the session's context bounds the try.
	bounded, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	begun := time.Now()
	_, err = etcdlock.NewSession(bounded, as(""), etcdlock.WithTTL(ttl))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Less(t, time.Since(begun), 3*time.Second)
	require.ErrorContains(t, err, "has not answered")
}
