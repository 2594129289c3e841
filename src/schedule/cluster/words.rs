//! Slurm's states and reasons, and what they mean to somebody who waits.

/// Whether a task in this state runs no more and will not.
pub fn is_over(state: &str) -> bool {
    matches!(
        state,
        "COMPLETED"
            | "FAILED"
            | "CANCELLED"
            | "TIMEOUT"
            | "NODE_FAIL"
            | "PREEMPTED"
            | "BOOT_FAIL"
            | "DEADLINE"
            | "OUT_OF_MEMORY"
            | "REVOKED"
            | "GONE"
    )
}

/// Whether a task in this state has a node.
pub fn is_running(state: &str) -> bool {
    matches!(state, "RUNNING" | "COMPLETING" | "SUSPENDED" | "STOPPED" | "SIGNALING" | "STAGE_OUT")
}

/// Whether an end like this says nothing about the job: it was somebody's wish, or a machine's fault.
pub(super) fn is_no_fault(state: &str) -> bool {
    matches!(state, "PREEMPTED" | "NODE_FAIL" | "BOOT_FAIL" | "CANCELLED" | "REVOKED")
}

/// What helps against an end in this state.
pub(super) fn remedy(state: &str) -> Option<&'static str> {
    Some(match state {
        "OUT_OF_MEMORY" => "`memory` under `[slurm]` asks for more",
        "TIMEOUT" | "DEADLINE" => "`time` under `[slurm]` asks for more; it was over before a step could be saved",
        _ => return None,
    })
}

/// What a reason for waiting means, where waiting alone will not help.
pub fn explain(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "PartitionConfig" | "PartitionNodeLimit" => "no node of the partition has as much as is asked for",
        "PartitionTimeLimit" => "more time is asked for than the partition allows",
        "PartitionDown" | "PartitionInactive" => "the partition is down",
        "DependencyNeverSatisfied" => "what it waits for failed",
        "BadConstraints" => "no node has the features that are asked for",
        "JobHeldAdmin" | "JobHeldUser" => "it is held; `scontrol release` lets it go",
        "InvalidAccount" => "the account may not use this partition",
        "InvalidQOS" => "the account may not use this quality of service",
        "AccountNotAllowed" | "QOSNotAllowed" => "the partition does not take this account",
        "AssocGrpCpuLimit" | "AssocGrpGRES" | "AssocMaxGRESPerJob" | "QOSMaxGRESPerUser" => {
            "the account's share is used up"
        }
        _ if reason.contains("held") => "it is held: `scontrol show job` says why, `scontrol release` lets it go",
        _ if reason.starts_with("ReqNodeNotAvail") => "the nodes that could run it are down or reserved",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_that_pass_are_not_explained() {
        assert!(explain("Resources").is_none() && explain("Priority").is_none() && explain("BeginTime").is_none());
        assert!(explain("launch failed requeued held").is_some() && explain("PartitionConfig").is_some());
        assert!(remedy("OUT_OF_MEMORY").is_some() && remedy("FAILED").is_none());
        assert!(is_over("NODE_FAIL") && !is_over("COMPLETING") && !is_over("PENDING"));
    }
}
