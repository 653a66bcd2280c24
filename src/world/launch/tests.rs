use super::*;

/// The launch and the meeting of an environment, written as `NAME=value` with blanks between.
fn met(environment: &str) -> Result<Meeting, LaunchError> {
    let variable = |name: &str| {
        let mut all = environment.split_whitespace().filter_map(|entry| entry.split_once('='));
        all.find_map(|(own, value)| (own == name).then(|| value.to_owned()))
    };
    Launch::find(variable).unwrap().meeting(variable)
}

fn is_together(environment: &[(&str, &str)]) -> bool {
    let variable =
        |name: &str| environment.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned());
    Launch::find(variable).unwrap().is_together(variable)
}

/// The meeting of processes that no launcher restarts.
fn meeting(launcher: &'static str, rank: u32, size: u32, local_rank: u32, at: (&str, u16)) -> Meeting {
    Meeting {
        launcher,
        rank,
        size,
        local_rank,
        host: at.0.to_owned(),
        port: at.1,
        served: false,
        restarts: 0,
        name: "pixtok/0".to_owned(),
    }
}

/// As torchrun 2.13 sets them, on one host, after one restart.
const TORCHRUN: &str = "GROUP_RANK=0 GROUP_WORLD_SIZE=1 LOCAL_RANK=1 LOCAL_WORLD_SIZE=2 MASTER_ADDR=localhost \
    MASTER_PORT=35017 OMP_NUM_THREADS=1 RANK=1 ROLE_NAME=default ROLE_RANK=1 ROLE_WORLD_SIZE=2 \
    TORCHELASTIC_MAX_RESTARTS=2 TORCHELASTIC_RESTART_COUNT=1 TORCHELASTIC_RUN_ID=b9dcd813-008b \
    TORCHELASTIC_USE_AGENT_STORE=True WORLD_SIZE=2";

#[test]
fn torchrun_serves_the_store_and_counts_its_starts() {
    let expected = Meeting {
        served: true,
        restarts: 1,
        name: "b9dcd813-008b/1".to_owned(),
        ..meeting("torchrun", 1, 2, 1, ("localhost", 35_017))
    };
    assert_eq!(met(TORCHRUN), Ok(expected.clone()));
    let own_store = TORCHRUN.replace("STORE=True", "STORE=False");
    assert_eq!(met(&own_store), Ok(Meeting { served: false, ..expected.clone() }));
    // A restarted batch job has a count of its own.
    assert_eq!(met(&format!("SLURM_RESTART_COUNT=4 {TORCHRUN}")), Ok(expected));
}

#[test]
fn torchrun_on_two_hosts_has_one_name_whatever_each_host_counts() {
    // As seen in the second start: only the agent whose own process failed has counted it.
    let [first, second] = [("0", "0"), ("1", "1")].map(|(rank, restarts)| {
        met(&format!(
            "GROUP_RANK={rank} GROUP_WORLD_SIZE=2 LOCAL_RANK=0 LOCAL_WORLD_SIZE=1 MASTER_ADDR=10.0.0.1 \
             MASTER_PORT=38401 RANK={rank} TORCHELASTIC_RESTART_COUNT={restarts} TORCHELASTIC_RUN_ID=job77 \
             TORCHELASTIC_USE_AGENT_STORE=True WORLD_SIZE=2"
        ))
        .unwrap()
    });
    assert_eq!((first.restarts, second.restarts), (0, 1));
    assert_eq!((first.name.as_str(), second.name.as_str()), ("job77", "job77"));
    assert_eq!((first.local_rank, second.local_rank), (0, 0));
}

#[test]
fn numbers_set_by_hand_meet_at_the_address() {
    let at = ("10.1.2.3", 29_500);
    let plain = met("RANK=3 WORLD_SIZE=4 MASTER_ADDR=10.1.2.3");
    assert_eq!(plain, Ok(meeting(BY_HAND, 3, 4, 3, at)));
    let whole = met("RANK=3 WORLD_SIZE=4 LOCAL_RANK=1 MASTER_ADDR=10.1.2.3 MASTER_PORT=1234");
    assert_eq!(whole, Ok(meeting(BY_HAND, 3, 4, 1, ("10.1.2.3", 1234))));
    assert_eq!(met("RANK=0 WORLD_SIZE=1"), Ok(meeting(BY_HAND, 0, 1, 0, (LOOPBACK, 29_500))));
}

/// As the training operator 1.9 sets them in the pod of the first worker.
const PYTORCHJOB: &str = "PYTHONUNBUFFERED=1 MASTER_PORT=23456 PET_MASTER_PORT=23456 \
    MASTER_ADDR=pixtok-master-0 PET_MASTER_ADDR=pixtok-master-0 WORLD_SIZE=4 RANK=1 PET_NODE_RANK=1 \
    PET_NPROC_PER_NODE=auto PET_NNODES=4";

#[test]
fn a_pytorchjob_has_one_process_in_each_pod() {
    let expected = meeting(BY_HAND, 1, 4, 1, ("pixtok-master-0", 23_456));
    assert_eq!(met(PYTORCHJOB), Ok(expected));
    let several = PYTORCHJOB.replace("PER_NODE=auto", "PER_NODE=2");
    assert!(
        met(&several).unwrap_err().to_string().starts_with("PET_NPROC_PER_NODE is \"2\", which is meant for")
    );
    assert!(met(&format!("LOCAL_RANK=0 {several}")).is_ok());
}

/// As srun of Slurm 22.05 sets them in the first task of the second host.
const SRUN: &str = "SLURMD_NODENAME=node005 SLURM_GTIDS=2,3 SLURM_JOB_ID=1234567 \
    SLURM_JOB_NODELIST=node[003,005] SLURM_LAUNCH_NODE_IPADDR=10.0.0.250 SLURM_LOCALID=0 SLURM_NNODES=2 \
    SLURM_NODEID=1 SLURM_NPROCS=4 SLURM_NTASKS=4 SLURM_NTASKS_PER_NODE=2 SLURM_PROCID=2 SLURM_STEP_ID=0 \
    SLURM_STEP_NODELIST=node[003,005] SLURM_STEP_NUM_NODES=2 SLURM_STEP_NUM_TASKS=4 \
    SLURM_STEP_TASKS_PER_NODE=2(x2) SLURM_SUBMIT_HOST=login";

#[test]
fn srun_meets_on_the_first_host_of_the_step() {
    let port = port_of("1234567.0");
    let named = |meeting| Meeting { name: "1234567.0/0".to_owned(), ..meeting };
    assert_eq!(met(SRUN), Ok(named(meeting("srun", 2, 4, 0, ("node003", port)))));
    let given = format!("MASTER_ADDR=10.0.0.3 MASTER_PORT=4000 {SRUN}");
    assert_eq!(met(&given), Ok(named(meeting("srun", 2, 4, 0, ("10.0.0.3", 4000)))));
    // The step is a part of the job, on one host.
    let part = SRUN.replace("STEP_NODELIST=node[003,005]", "STEP_NODELIST=node005");
    let part = part.replace("NUM_NODES=2", "NUM_NODES=1").replace("PROCID=2", "PROCID=0");
    assert_eq!(met(&part), Ok(named(meeting("srun", 0, 4, 0, (LOOPBACK, port)))));
    let again = met(&format!("SLURM_RESTART_COUNT=3 {SRUN}")).unwrap();
    assert_eq!((again.restarts, again.name.as_str()), (3, "1234567.0/3"));
}

#[test]
fn srun_with_pmi2_is_not_taken_for_mpirun() {
    let pmi2 = met(&format!("PMI_FD=10 PMI_JOBID=1234567.0 PMI_RANK=2 PMI_SIZE=4 {SRUN}")).unwrap();
    assert_eq!((pmi2.launcher, pmi2.host.as_str()), ("srun", "node003"));
    // mpiexec of MPICH in a job: srun has started only its daemons, one on each host.
    let hydra = format!(
        "MPI_LOCALNRANKS=2 MPI_LOCALRANKID=1 PMI_FD=6 PMI_RANK=1 PMI_SIZE=3 MASTER_ADDR=node003 {}",
        SRUN.replace("SLURM_PROCID=2", "SLURM_PROCID=0")
    );
    let expected = meeting("mpirun", 1, 3, 1, ("node003", port_of("1234567")));
    assert_eq!(met(&hydra), Ok(Meeting { name: "1234567/0".to_owned(), ..expected }));
}

#[test]
fn a_shell_in_an_interactive_job_is_alone() {
    let shell = "SLURM_JOB_ID=7 SLURM_JOB_NODELIST=node[003-004] SLURM_NTASKS=4 SLURM_PROCID=0 SLURM_LOCALID=0 \
        SLURM_STEP_ID=4294967290 SLURM_STEP_NODELIST=node003 SLURM_STEP_NUM_NODES=1 SLURM_STEP_NUM_TASKS=1";
    let alone = met(shell).unwrap();
    assert_eq!((alone.rank, alone.size, alone.host.as_str()), (0, 1, LOOPBACK));
}

#[test]
fn tasks_in_another_order_need_an_address() {
    // As seen with --distribution=arbitrary.
    let first = SRUN.replace("SLURM_PROCID=2", "SLURM_PROCID=0");
    let message = met(&first).unwrap_err().to_string();
    assert!(
        message.starts_with("task 0 runs on node005, but the others look for it on node003"),
        "{message}"
    );
    assert!(message.ends_with("set MASTER_ADDR to node005 before srun"), "{message}");
    let unread = SRUN.replace("STEP_NODELIST=node[003,005]", "STEP_NODELIST=node[003");
    assert!(met(&unread).unwrap_err().to_string().contains("SLURM_STEP_NODELIST is \"node[003\""));
}

/// As mpirun of Open MPI 4.1 sets them, on one host.
const OPEN_MPI_4: &str = "OMPI_COMM_WORLD_LOCAL_RANK=1 OMPI_COMM_WORLD_LOCAL_SIZE=2 OMPI_COMM_WORLD_NODE_RANK=1 \
    OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2 OMPI_MCA_ess_base_jobid=713752577 \
    OMPI_MCA_orte_hnp_uri=713752576.0;tcp://192.0.2.2:52657;tcp6://[fd00::2]:40593 OMPI_MCA_orte_num_nodes=1 \
    PMIX_NAMESPACE=713752577 PMIX_RANK=1 PMIX_SERVER_URI2=713752576.0;tcp4://127.0.0.1:47891";

/// As mpirun of Open MPI 5.0 sets them in the only process of the second host.
const OPEN_MPI_5: &str = "OMPI_COMM_WORLD_LOCAL_RANK=0 OMPI_COMM_WORLD_LOCAL_SIZE=1 OMPI_COMM_WORLD_NODE_RANK=0 \
    OMPI_COMM_WORLD_RANK=2 OMPI_COMM_WORLD_SIZE=3 PMIX_HOSTNAME=b PMIX_NAMESPACE=prterun-a-28532@1 PMIX_RANK=2 \
    PMIX_SERVER_URI41=prterun-a-28532@0.1;tcp4://127.0.0.1:52673 PRTE_LAUNCHED=1";

#[test]
fn open_mpi_meets_on_its_only_host_or_at_the_address() {
    let one_host = meeting("mpirun", 1, 2, 1, (LOOPBACK, port_of("713752577")));
    assert_eq!(met(OPEN_MPI_4), Ok(Meeting { name: "713752577/0".to_owned(), ..one_host }));
    let message = met(OPEN_MPI_5).unwrap_err().to_string();
    assert!(message.starts_with("mpirun started 3 processes, and MASTER_ADDR is not set; "), "{message}");
    assert!(message.contains("-x MASTER_ADDR=HOST -x MASTER_PORT=PORT"), "{message}");
    let two_hosts = meeting("mpirun", 2, 3, 0, ("a", port_of("prterun-a-28532@1")));
    let expected = Meeting { name: "prterun-a-28532@1/0".to_owned(), ..two_hosts };
    assert_eq!(met(&format!("MASTER_ADDR=a {OPEN_MPI_5}")), Ok(expected));
}

#[test]
fn hydra_meets_on_its_only_host_or_at_the_address() {
    // As mpiexec of MPICH 4.0 and 5.0 sets them.
    let mpich = "HYDI_CONTROL_FD=7 MPI_LOCALNRANKS=2 MPI_LOCALRANKID=1 PMI_FD=11 PMI_RANK=1 PMI_SIZE=2";
    assert_eq!(met(mpich), Ok(meeting("mpirun", 1, 2, 1, (LOOPBACK, 29_500))));
    // As mpirun of Intel MPI 2021.19 sets them, on two hosts.
    let intel =
        "I_MPI_HYDRA_UUID=b96f0000-81a4 MPI_LOCALNRANKS=1 MPI_LOCALRANKID=0 PMI_FD=9 PMI_RANK=1 PMI_SIZE=2";
    assert!(met(intel).unwrap_err().to_string().contains("-genv MASTER_ADDR HOST -genv MASTER_PORT PORT"));
    let expected = meeting("mpirun", 1, 2, 0, ("a", port_of("b96f0000-81a4")));
    let named = Meeting { name: "b96f0000-81a4/0".to_owned(), ..expected };
    assert_eq!(met(&format!("MASTER_ADDR=a {intel}")), Ok(named));
}

#[test]
fn an_indexed_job_is_together_if_its_manifest_says_where() {
    let alone = [("JOB_COMPLETION_INDEX", "1"), ("JOB_COMPLETIONS", "4")];
    assert!(!is_together(&alone));
    assert!(is_together(&[alone[0], alone[1], ("MASTER_ADDR", "pixtok-0.pixtok")]));
    assert!(!is_together(&[alone[0], alone[1], ("MASTER_ADDR", "")]));
    assert!(is_together(&[("RANK", "0"), ("WORLD_SIZE", "2")]));
    let job = met("JOB_COMPLETION_INDEX=1 JOB_COMPLETIONS=4 MASTER_ADDR=pixtok-0.pixtok");
    assert_eq!(job, Ok(meeting(KUBERNETES, 1, 4, 0, ("pixtok-0.pixtok", 29_500))));
    let message = met("JOB_COMPLETION_INDEX=1 MASTER_ADDR=pixtok-0.pixtok").unwrap_err().to_string();
    assert!(message.contains("JOB_COMPLETIONS is not set; set it to the number of completions"), "{message}");
}

#[test]
fn a_trainjob_needs_torchrun() {
    // As the trainer 2 of Kubeflow sets them.
    let pod = "JOB_COMPLETION_INDEX=1 PET_NNODES=2 PET_NPROC_PER_NODE=1 PET_NODE_RANK=1 \
        PET_MASTER_ADDR=pixtok-node-0-0.pixtok PET_MASTER_PORT=29500";
    let message = met(pod).unwrap_err().to_string();
    assert!(message.starts_with("PET_MASTER_ADDR is \"pixtok-node-0-0.pixtok\""), "{message}");
    assert!(message.contains("torchrun --no-python -- pixtok"), "{message}");
    assert!(is_together(&[("JOB_COMPLETION_INDEX", "1"), ("PET_MASTER_ADDR", "pixtok-node-0-0.pixtok")]));
}

#[test]
fn what_is_wrong_is_named_with_its_remedy() {
    for (environment, parts) in [
        ("RANK=1 WORLD_SIZE=2", ["MASTER_ADDR is not set", "set it to the host of process 0"]),
        ("RANK=4 WORLD_SIZE=4 MASTER_ADDR=a", ["RANK is \"4\"", "from 0 to WORLD_SIZE - 1"]),
        ("RANK=x WORLD_SIZE=4 MASTER_ADDR=a", ["RANK is \"x\"", "WORLD_SIZE is \"4\""]),
        ("RANK=0 WORLD_SIZE=0 MASTER_ADDR=a", ["RANK is \"0\"", "WORLD_SIZE is \"0\""]),
        ("RANK=0 WORLD_SIZE=4 MASTER_ADDR=a MASTER_PORT=http", ["\"http\"", "from 1 to 65535"]),
        ("RANK=0 WORLD_SIZE=4 MASTER_ADDR=a MASTER_PORT=0", ["\"0\"", "from 1 to 65535"]),
        ("RANK=0 WORLD_SIZE=4 MASTER_ADDR=a MASTER_PORT=65536", ["\"65536\"", "from 1 to 65535"]),
        ("RANK=0 WORLD_SIZE=4 MASTER_ADDR=a LOCAL_RANK=-1", ["LOCAL_RANK is \"-1\"", "correct it"]),
        ("JOB_COMPLETION_INDEX=0 JOB_COMPLETIONS=2", ["MASTER_ADDR", "the pod with index 0"]),
        ("SLURM_PROCID=1 SLURM_NTASKS=2", ["SLURM_STEP_NODELIST is \"\"", "set MASTER_ADDR"]),
    ] {
        let message = met(environment).unwrap_err().to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{environment}: {message}");
    }
}

#[test]
fn ports_of_jobs_side_by_side_differ() {
    let jobs = (1_234_000..1_235_000).map(|job| format!("{job}.0"));
    let steps = (1..100).map(|step| format!("1234000.{step}"));
    let mut ports: Vec<u16> = jobs.chain(steps).map(|id| port_of(&id)).collect();
    assert!(ports.iter().all(|port| (20_000..=29_490).contains(port)));
    ports[..1000].sort_unstable();
    assert!(ports[..1000].windows(2).all(|pair| pair[0] != pair[1]));
    ports.sort_unstable();
    assert!(ports.windows(2).filter(|pair| pair[0] == pair[1]).count() < 30);
}
