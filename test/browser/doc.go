// Package browser tests the page of lockui in Chromium, on the command and an etcd of its own, and
// makes the pictures of docs/ui.md. The tests run by
// `make browser` only, because they need Chromium.
package browser
