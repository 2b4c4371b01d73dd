//! A plan of operations that no model of the conformance set has, on a software adapter against the CPU.

use std::io::Write;

use satchel_gguf::TensorType;

use super::{GpuDevice, uncovered};
use crate::device::cpu::Cpu;
use crate::device::{Device, MappedPart};
use crate::kernels;
use crate::mapping::MappedFile;
use crate::plan::{
    Activation, CacheTypes, ExpertActivation, Experts, Gating, Head, Linear, Op, Plan, PlanBuilder, Role, Router, Slot,
    Step, Weight, WeightUse,
};
use crate::quant::random::RandomWeights;

const VOCABULARY: usize = 50;
const POSITIONS: usize = 40;

/// A plan while its weights are made up.
#[derive(Default)]
struct Random {
    plan: PlanBuilder,
    bytes: Vec<u8>,
}

impl Random {
    fn weight(&mut self, role: Role, ty: TensorType, stack: usize, rows: usize, columns: usize) -> Weight {
        let offset = self.bytes.len() as u64;
        let stack_bytes = ty.row_bytes(columns as u64).expect("whole blocks") * rows as u64;
        self.bytes.resize(self.bytes.len() + stack * stack_bytes as usize, 0);
        RandomWeights::new(ty, 0.3, offset + 1).fill(&mut self.bytes[offset as usize..]);
        let name = format!("weight.{offset}");
        let part = 0;
        self.plan.weight(WeightUse { name, role, part, offset, ty, rows, first_row: 0, columns, stack, stack_bytes })
    }

    fn vector(&mut self, rows: usize, columns: usize) -> Weight {
        self.weight(Role::Vector, TensorType::F32, 1, rows, columns)
    }

    fn linear(&mut self, x: Slot, ty: TensorType, rows: usize) -> Slot {
        let columns = self.plan.columns(x);
        let weight = self.weight(Role::Matrix, ty, 1, rows, columns);
        self.plan.linear(x, Linear { weight, bias: None, factor: None })
    }

    fn stack(&mut self, ty: TensorType, rows: usize, columns: usize) -> Weight {
        self.weight(Role::Matrix, ty, 6, rows, columns)
    }

    /// Six experts of 32 inner columns, of which a row uses two.
    fn experts(&mut self, x: Slot, router: Router, gated: bool, weigh_input: bool) -> Slot {
        let columns = self.plan.columns(x);
        let scores = self.linear(x, TensorType::F32, 6);
        let bias = Some(self.vector(1, 6));
        let routes = self.plan.route(scores, Router { bias, ..router });
        let silu = Activation::Silu;
        let experts = Experts {
            gate: gated.then(|| self.stack(TensorType::Q4_0, 32, columns)),
            up: self.stack(TensorType::Q4_0, 32, columns),
            down: self.stack(TensorType::Q8_0, columns, 32),
            gate_bias: gated.then(|| self.vector(6, 32)),
            up_bias: Some(self.vector(6, 32)),
            down_bias: None,
            gate_factor: gated.then(|| self.vector(1, 6)),
            up_factor: None,
            down_factor: Some(self.vector(1, 6)),
            activation: if gated { ExpertActivation::Gated(silu) } else { ExpertActivation::Plain(silu) },
            weigh_input,
            adapters: Vec::new(),
        };
        self.plan.experts(x, routes, experts)
    }
}

/// Learned positions, a matrix for each head, joined parts, a temperature, experts of all rows and of wanted ones.
fn plan() -> (Plan, Vec<u8>) {
    let mut random = Random::default();
    let table = random.weight(Role::Table, TensorType::F16, 1, VOCABULARY, 64);
    let x = random.plan.embed(table, 1.0);
    let table = random.weight(Role::Table, TensorType::F32, 1, POSITIONS, 64);
    random.plan.apply(Op::Position { table, x });
    let stack = random.weight(Role::Matrix, TensorType::Q8_0, 2, 24, 32);
    let heads = random.plan.linear_heads(x, stack);
    let shared = random.linear(x, TensorType::Q5_0, 8);
    let joined = random.plan.join(heads, shared, 2, 8);
    random.plan.apply(Op::Temperature { x: joined, scale: 0.1, length: 7, offset: 0.0 });
    random.plan.apply(Op::Clamp { x: joined, limit: 3.0 });
    let vector = random.vector(1, 64);
    random.plan.apply(Op::MultiplyVector { vector, to: joined, width: 1 });
    random.plan.apply(Op::DivideVector { vector, to: joined });
    let router = Router {
        experts: 6,
        used: 2,
        gating: Gating::Sigmoid,
        bias: None,
        by_score: false,
        groups: 3,
        groups_used: 2,
        normalise: true,
        scale: 1.5,
    };
    let mixed = random.experts(joined, router, true, false);
    random.plan.add(mixed, joined);
    let wanted = random.plan.select(joined);
    let softmax = Router { gating: Gating::Softmax, groups: 1, groups_used: 1, by_score: true, ..router };
    let mixed = random.experts(wanted, softmax, false, true);
    random.plan.add(mixed, wanted);
    let logits = random.linear(wanted, TensorType::F32, VOCABULARY);
    let Random { plan, bytes } = random;
    (plan.finish("test", VOCABULARY, 512, Head::Logits(logits)), bytes)
}

fn step(rows: usize, outputs: Vec<usize>) -> Step {
    let mut step = Step { outputs, states: vec![Vec::new()], ..Step::default() };
    (0..rows).for_each(|at| step.push((at * 7 % VOCABULARY) as u32, at, 0));
    step
}

#[test]
fn what_no_model_of_the_conformance_set_has_gives_the_cpus_results() {
    let name = std::env::var("SATCHEL_TEST_GPU_NAME").unwrap_or_else(|_| "llvmpipe".to_owned());
    let device = match GpuDevice::open_named(&name, CacheTypes::default(), false) {
        Ok(device) => device,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "GPU tests cannot be skipped in CI: {error}");
            let line = format!("SKIPPED a plan on a GPU: {error}; apt-get install mesa-vulkan-drivers has llvmpipe\n");
            return std::io::stderr().write_all(line.as_bytes()).expect("stderr can be written");
        }
    };
    let (plan, bytes) = plan();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), &bytes).expect("it is written");
    let file = MappedFile::open(file.path()).expect("it is mapped");
    let parts = [MappedPart { file, start: 0, length: bytes.len() }];
    let all = 0..plan.ops.len();
    assert_eq!(uncovered(&plan, all.clone(), CacheTypes::default()), None);
    let mut found = device.load(&plan, all.clone(), &parts).expect("it is covered");
    let mut right = Cpu::new(kernels::best(), 1, CacheTypes::default()).load(&plan, all, &parts).expect("it loads");
    for (rows, outputs) in [(1, vec![0]), (23, vec![2, 3, 19, 22]), (5, vec![4]), (3, Vec::new())] {
        let step = step(rows, outputs);
        found.run(&step).expect("it runs");
        right.run(&step).expect("it runs");
        let (found, right) = (found.output(), right.output());
        assert_eq!(found.len(), step.outputs.len() * VOCABULARY);
        let square = |values: &mut dyn Iterator<Item = f32>| values.map(|value| f64::from(value).powi(2)).sum::<f64>();
        let error = square(&mut found.iter().zip(right).map(|(found, right)| found - right));
        let size = square(&mut right.iter().copied());
        assert!(error <= 1e-8 * size, "{rows} rows: {error:e} of {size:e}");
    }
    let beyond = step(POSITIONS + 1, vec![0]);
    let refused = found.run(&beyond).expect_err("there is no such position").to_string();
    assert_eq!(refused, format!("the model has learned {POSITIONS} positions and knows no other"));
}
