package faultproxy_test

import (
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/etcdlock/etcdlock/internal/faultproxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo starts a server that sends back what it gets, and tells what it got.
func echo(t *testing.T) (addr string, got <-chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	seen := make(chan string, 100)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				buf := make([]byte, 100)
				for {
					n, err := conn.Read(buf)
					if err != nil {
						return
					}
					seen <- string(buf[:n])
					if _, err := conn.Write(buf[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String(), seen
}

func start(t *testing.T) (*faultproxy.Proxy, net.Conn, <-chan string) {
	t.Helper()
	addr, got := echo(t)
	p, err := faultproxy.New(addr)
	require.NoError(t, err)
	t.Cleanup(p.Close)
	conn, err := net.Dial("tcp", p.Endpoints()[0])
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return p, conn, got
}

func send(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	_, err := conn.Write([]byte(text))
	require.NoError(t, err)
}

// long is for what has to happen, and soon does.
const long = time.Minute

func receive(conn net.Conn, within time.Duration) (string, error) {
	_ = conn.SetReadDeadline(time.Now().Add(within))
	buf := make([]byte, 100)
	n, err := conn.Read(buf)
	return string(buf[:n]), err
}

func TestBytesPassInBothDirectionsWithoutFaults(t *testing.T) {
	_, conn, got := start(t)
	send(t, conn, "hello")
	require.Equal(t, "hello", <-got)
	answer, err := receive(conn, long)
	require.NoError(t, err)
	require.Equal(t, "hello", answer)
}

func TestAHeldAnswerArrivesAfterResumeAlthoughTheRequestTookEffectBefore(t *testing.T) {
	p, conn, got := start(t)
	p.Hold(faultproxy.ToClient)
	send(t, conn, "a")
	require.Equal(t, "a", <-got)
	_, err := receive(conn, 50*time.Millisecond)
	require.Error(t, err)
	p.Resume()
	answer, err := receive(conn, long)
	require.NoError(t, err)
	require.Equal(t, "a", answer)
}

func TestAHeldRequestReachesTheServerOnlyAfterResume(t *testing.T) {
	p, conn, got := start(t)
	p.Hold(faultproxy.ToServer)
	send(t, conn, "a")
	select {
	case text := <-got:
		t.Fatalf("got %q through the cut", text)
	case <-time.After(50 * time.Millisecond):
	}
	p.Resume()
	require.Equal(t, "a", <-got)
}

func TestReleaseEndsTheFaultsOfOneDirectionOnly(t *testing.T) {
	p, conn, got := start(t)
	p.Hold()
	send(t, conn, "a")
	p.Release(faultproxy.ToServer)
	require.Equal(t, "a", <-got)
	_, err := receive(conn, 50*time.Millisecond)
	require.Error(t, err)
	p.Release(faultproxy.ToClient)
	answer, err := receive(conn, long)
	require.NoError(t, err)
	require.Equal(t, "a", answer)
}

func TestADelayHoldsForItsDirectionOnly(t *testing.T) {
	p, conn, got := start(t)
	p.Delay(faultproxy.ToClient, time.Hour)
	send(t, conn, "a")
	select {
	case text := <-got:
		require.Equal(t, "a", text)
	case <-time.After(long):
		require.FailNow(t, "the request is delayed")
	}
	_, err := receive(conn, 50*time.Millisecond)
	require.Error(t, err)
	p.Release(faultproxy.ToClient)
	_, err = receive(conn, long)
	require.NoError(t, err)

	p.Delay(faultproxy.ToClient, 100*time.Millisecond)
	sent := time.Now()
	send(t, conn, "b")
	_, err = receive(conn, long)
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(sent), 100*time.Millisecond)
}

func TestDropEndsOpenConnectionsAndRefuseNewOnes(t *testing.T) {
	p, conn, _ := start(t)
	p.Refuse()
	p.Hold()
	send(t, conn, "a")
	p.Drop()
	_, err := receive(conn, long)
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)

	again, err := net.Dial("tcp", p.Endpoints()[0])
	require.NoError(t, err)
	defer again.Close()
	_, err = receive(again, long)
	require.ErrorIs(t, err, io.EOF)
}

func TestRefuseEndsAConnectionWhoseServerIsBeingDialed(t *testing.T) {
	addr, _ := echo(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	dialing, dialed := make(chan struct{}), make(chan struct{})
	p := faultproxy.Between(l, func() (net.Conn, error) {
		close(dialing)
		<-dialed
		return net.Dial("tcp", addr)
	})
	t.Cleanup(p.Close)
	conn, err := net.Dial("tcp", p.Endpoints()[0])
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	<-dialing
	p.Refuse()
	p.Drop()
	close(dialed)

	_, err = receive(conn, long)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	require.Error(t, err)
}
