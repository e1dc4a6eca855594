package recipes

import (
	"context"
	"errors"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/etcdlock/etcdlock/fence"
)

// PutDynamoDB replaces an item if no newer token has written it. The item keeps the token in the
// attributes fence_epoch and fence_token; numbers of DynamoDB have 38 digits. A write of several
// items puts this condition on one item of a TransactWriteItems.
func PutDynamoDB(ctx context.Context, client *dynamodb.Client, table, resource string, item map[string]types.AttributeValue, token fence.Token) error {
	epoch := &types.AttributeValueMemberN{Value: strconv.FormatInt(token.Epoch, 10)}
	value := &types.AttributeValueMemberN{Value: strconv.FormatInt(token.Value, 10)}
	item["fence_epoch"], item["fence_token"] = epoch, value
	_, err := client.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: &table, Item: item,
		ConditionExpression: aws.String("attribute_not_exists(fence_token) OR fence_epoch < :epoch" +
			" OR (fence_epoch = :epoch AND fence_token <= :token)"),
		ExpressionAttributeValues:           map[string]types.AttributeValue{":epoch": epoch, ":token": value},
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	var refused *types.ConditionalCheckFailedException
	if errors.As(err, &refused) {
		return &fence.Stale{Resource: resource, Token: token, Seen: fence.Token{
			Epoch: itemNumber(refused.Item["fence_epoch"]), Value: itemNumber(refused.Item["fence_token"]),
		}}
	}
	return err
}

func itemNumber(v types.AttributeValue) int64 {
	if n, ok := v.(*types.AttributeValueMemberN); ok {
		i, _ := strconv.ParseInt(n.Value, 10, 64)
		return i
	}
	return 0
}
