"""What the attestors sign: digests, leaves, trees and quorums; the batch; the judgement of permits."""
