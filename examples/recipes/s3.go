package recipes

import (
	"bytes"
	"context"
	"errors"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/etcdlock/etcdlock/fence"
)

const fenceKey = "fence"

// PutS3 replaces an object if no newer token has written it.
//
// The ETag of S3 is a hash of the content, so two objects with the same content have one ETag. The
// first line of the object is therefore the token: a write with a newer token changes the ETag,
// even if the data stays. Readers skip this line.
func PutS3(ctx context.Context, client *s3.Client, bucket, key string, data []byte, token fence.Token) error {
	for {
		put := &s3.PutObjectInput{
			Bucket: &bucket, Key: &key, Metadata: map[string]string{fenceKey: token.String()},
			Body: bytes.NewReader(append([]byte(token.String()+"\n"), data...)),
		}
		head, err := client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &bucket, Key: &key})
		switch {
		case err == nil:
			seen, err := fence.Parse(head.Metadata[fenceKey])
			if err != nil {
				return err // written without the fence
			}
			if token.Less(seen) {
				return &fence.Stale{Resource: key, Token: token, Seen: seen}
			}
			put.IfMatch = head.ETag
		case httpStatus(err) == http.StatusNotFound:
			put.IfNoneMatch = aws.String("*")
		default:
			return err
		}
		_, err = client.PutObject(ctx, put)
		switch httpStatus(err) {
		case http.StatusPreconditionFailed, http.StatusConflict, http.StatusNotFound: // another write came between
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		default:
			return err
		}
	}
}

func httpStatus(err error) int {
	var response *awshttp.ResponseError
	if errors.As(err, &response) {
		return response.HTTPStatusCode()
	}
	return 0
}
