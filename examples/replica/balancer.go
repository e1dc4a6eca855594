package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// write writes a note again and again, each time to the primary, as a load balancer finds
// it that sends requests where /leader answers 200.
func write(ctx context.Context, addresses []string) error {
	client := &http.Client{Timeout: time.Second}
	defer client.CloseIdleConnections()
	for n := 1; ; n++ {
		by, err := writeOnce(ctx, client, addresses, fmt.Sprintf("note %d", n))
		switch {
		case err == nil:
			fmt.Printf("note %d %s\n", n, by)
		case ctx.Err() == nil:
			fmt.Printf("note %d: %v\n", n, err)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil
		}
	}
}

var errNoPrimary = errors.New("no primary at this moment")

func writeOnce(ctx context.Context, client *http.Client, addresses []string, note string) (by string, err error) {
	for _, address := range addresses {
		if code, _, err := do(ctx, client, http.MethodGet, "http://"+address+"/leader", ""); err != nil || code != http.StatusOK {
			continue
		}
		code, body, err := do(ctx, client, http.MethodPost, "http://"+address+"/note", note)
		if err == nil && code == http.StatusOK {
			return strings.TrimSpace(body), nil
		}
		return "", errors.Join(errNoPrimary, err) // it has just ceased to be
	}
	return "", errNoPrimary
}

func do(ctx context.Context, client *http.Client, method, url, body string) (code int, answer string, err error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}
