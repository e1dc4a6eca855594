package sharedtimer

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestEachValueIsCalledLaterUnlessItIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		called := make(map[int]time.Duration)
		l := NewLater(time.Second, func(n int) { called[n] = time.Since(began) })
		var numbers []uint64
		for n := range 10 {
			numbers = append(numbers, l.Add(n+1))
			time.Sleep(10 * time.Millisecond)
		}
		l.Drop(0)
		l.Drop(numbers[0])
		l.Drop(numbers[4])
		time.Sleep(time.Minute)
		synctest.Wait()
		want := make(map[int]time.Duration)
		for n := range 10 {
			want[n+1] = time.Second + time.Duration(n)*10*time.Millisecond
		}
		delete(want, 1)
		delete(want, 5)
		require.Equal(t, want, called)
		require.Nil(t, l.waiting)
		require.False(t, l.armed)
		for _, number := range numbers {
			l.Drop(number) // long after the call
		}
		l.Drop(l.Add(11))
		l.Add(12)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Len(t, called, 9)
		require.Contains(t, called, 12)
	})
}

func TestAValueIsAddedByItsOwnCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		var l *Later[int]
		l = NewLater(time.Second, func(n int) {
			if calls++; calls < 3 {
				l.Add(n)
			}
		})
		l.Add(1)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, 3, calls)
	})
}
