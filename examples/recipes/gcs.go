package recipes

import (
	"bytes"
	"context"
	"fmt"
	"net/http"

	"github.com/etcdlock/etcdlock/fence"
)

// PutGCS replaces an object of Google Cloud Storage if no newer token has written it. url is
// https://storage.googleapis.com/BUCKET/OBJECT, and client adds the credentials. Every write gives
// the object another generation, whatever its content. With Google's Go client the same condition is
// object.If(storage.Conditions{GenerationMatch: generation}); it would add 469 packages here.
func PutGCS(ctx context.Context, client *http.Client, url string, data []byte, token fence.Token) error {
	for {
		resp, err := request(ctx, client, http.MethodHead, url, nil, nil)
		if err != nil {
			return err
		}
		generation := "0" // there is no object
		switch resp.StatusCode {
		case http.StatusOK:
			seen, err := fence.Parse(resp.Header.Get("X-Goog-Meta-Fence"))
			if err != nil {
				return err // written without the fence
			}
			if token.Less(seen) {
				return &fence.Stale{Resource: url, Token: token, Seen: seen}
			}
			generation = resp.Header.Get("X-Goog-Generation")
		case http.StatusNotFound:
		default:
			return fmt.Errorf("read %s: %s", url, resp.Status)
		}
		resp, err = request(ctx, client, http.MethodPut, url, data, map[string]string{
			"X-Goog-If-Generation-Match": generation, "X-Goog-Meta-Fence": token.String(),
		})
		switch {
		case err != nil:
			return err
		case resp.StatusCode == http.StatusOK:
			return nil
		case resp.StatusCode != http.StatusPreconditionFailed: // of another write in between
			return fmt.Errorf("write %s: %s", url, resp.Status)
		}
	}
}

func request(ctx context.Context, client *http.Client, method, url string, body []byte, header map[string]string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for key, value := range header {
		r.Header.Set(key, value)
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	return resp, resp.Body.Close()
}
