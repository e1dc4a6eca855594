package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// authorities are the certificates of public authorities on this machine, which an image brings
// along. Debian and Ubuntu have them there.
const authorities = "/etc/ssl/certs/ca-certificates.crt"

// artifact is a line of what goreleaser says that it made.
type artifact struct {
	Path   string
	GoOS   string `json:"goos"`
	GoArch string `json:"goarch"`
	Type   string
}

// writeImage writes an OCI layout with an index of one image for each Linux program that goreleaser
// built. The times in it are those of the commit, so the same commit gives the same digest.
func writeImage(ctx context.Context, repo, version, dist, dir string) error {
	text, err := os.ReadFile(filepath.Join(dist, "artifacts.json"))
	if err != nil {
		return err
	}
	var artifacts []artifact
	if err := json.Unmarshal(text, &artifacts); err != nil {
		return err
	}
	committed, err := git(ctx, repo, "show", "--no-patch", "--format=%cI", "HEAD")
	if err != nil {
		return err
	}
	at, err := time.Parse(time.RFC3339, strings.TrimSpace(committed))
	if err != nil {
		return err
	}
	var index v1.ImageIndex = empty.Index
	for _, a := range artifacts {
		if a.Type != "Binary" || a.GoOS != "linux" {
			continue
		}
		image, err := imageOf(filepath.Join(filepath.Dir(dist), a.Path), a.GoArch, version, at)
		if err != nil {
			return fmt.Errorf("%s: %w", a.Path, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        image,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: a.GoOS, Architecture: a.GoArch}},
		})
	}
	if manifest, err := index.IndexManifest(); err != nil {
		return err
	} else if len(manifest.Manifests) == 0 {
		return errors.New("no program for Linux in " + dist)
	}
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	return path.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": version}))
}

// imageOf is an image with a program, certificates, and nothing else.
func imageOf(program, arch, version string, at time.Time) (v1.Image, error) {
	layer, err := layerOf(at, []imageFile{
		{place: "etc/ssl/certs/ca-certificates.crt", from: authorities, mode: 0o644},
		{place: "etcdlock", from: program, mode: 0o755},
	})
	if err != nil {
		return nil, err
	}
	image, err := mutate.Append(mutate.MediaType(empty.Image, types.OCIManifestSchema1), mutate.Addendum{
		Layer:   layer,
		History: v1.History{Created: v1.Time{Time: at}, CreatedBy: "release image"},
	})
	if err != nil {
		return nil, err
	}
	return mutate.ConfigFile(mutate.ConfigMediaType(image, types.OCIConfigJSON), configOf(image, arch, version, at))
}

func configOf(image v1.Image, arch, version string, at time.Time) *v1.ConfigFile {
	config, err := image.ConfigFile()
	if err != nil { // an image in memory has one
		panic(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", arch, v1.Time{Time: at}
	config.Config.User = "65532:65532"
	config.Config.Entrypoint = []string{"/etcdlock"}
	config.Config.Labels = map[string]string{
		"org.opencontainers.image.title":    "etcdlock",
		"org.opencontainers.image.source":   "https://" + rootPath,
		"org.opencontainers.image.version":  strings.TrimPrefix(version, "v"),
		"org.opencontainers.image.licenses": "Apache-2.0",
	}
	return config
}

// imageFile is a file of an image, with the file of this machine that it is a copy of.
type imageFile struct {
	place, from string
	mode        int64
}

func layerOf(at time.Time, files []imageFile) (v1.Layer, error) {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, f := range files {
		text, err := os.ReadFile(f.from)
		if err != nil {
			return nil, err
		}
		if err := w.WriteHeader(&tar.Header{Name: f.place, Mode: f.mode, Size: int64(len(text)), ModTime: at}); err != nil {
			return nil, err
		}
		if _, err := w.Write(text); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(archive.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer))
}
