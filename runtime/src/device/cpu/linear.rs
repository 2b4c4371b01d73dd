//! Matrix products.

use super::program::CpuProgram;
use crate::kernels::elementwise;
use crate::kernels::matmul::{self, Activations, Work};
use crate::plan::{Factor, Product, Slot, Weight};

impl CpuProgram {
    /// Several products with the same input.
    pub(super) fn linear(&mut self, x: Slot, products: &[Product]) {
        if products.iter().any(|product| product.factor.is_some()) {
            return products.iter().for_each(|product| self.product_with_factor(x, product));
        }
        let types: Vec<_> = products.iter().map(|product| self.weights.facts(product.weight).ty).collect();
        let mut outs: Vec<Vec<f32>> = products.iter().map(|product| self.take(product.out)).collect();
        let mut activations = std::mem::take(&mut self.activations);
        activations.set(self.kernels, &self.threads, self.values(x), self.tokens(x), self.columns(x), &types);
        let mut kernel_products: Vec<matmul::Product<'_>> = products
            .iter()
            .zip(&mut outs)
            .map(|(product, out)| matmul::Product {
                weight: self.weights.matrix(product.weight, 0),
                out: &mut out[..self.elements(product.out)],
                add: product.add,
                bias: product.bias.map(|bias| self.weights.vector(bias)),
            })
            .collect();
        matmul::matmul(self.kernels, &self.threads, &mut kernel_products, &activations);
        self.activations = activations;
        for (product, out) in products.iter().zip(outs) {
            self.put(product.out, out);
        }
    }

    /// Multiplies each head of `x` by its own matrix of a stack.
    pub(super) fn linear_heads(&mut self, x: Slot, weight: Weight, out: Slot) {
        let facts = self.weights.facts(weight);
        let (heads, inputs, outputs, ty) = (facts.stack, facts.columns, facts.rows, facts.ty);
        let rows = self.rows(x);
        let mut activations = std::mem::take(&mut self.head_activations);
        activations.resize_with(heads, Activations::new);
        let mut gathered = vec![0.0; rows * inputs];
        for (head, activations) in activations.iter_mut().enumerate() {
            elementwise::for_rows(&self.threads, &mut gathered, inputs, inputs, &|range, gathered| {
                let parts = self.values(x).chunks_exact(inputs).skip(range.start * heads + head).step_by(heads);
                parts.zip(gathered.chunks_exact_mut(inputs)).for_each(|(part, to)| to.copy_from_slice(part));
            });
            activations.set(self.kernels, &self.threads, &gathered, rows, inputs, &[ty]);
        }
        let mut products = vec![0.0; heads * rows * outputs];
        let each = products.chunks_exact_mut(rows * outputs).zip(&activations).enumerate();
        let mut work: Vec<Work<'_>> = each
            .map(|(head, (out, activations))| Work {
                product: matmul::Product { weight: self.weights.matrix(weight, head), out, add: false, bias: None },
                x: activations.rows(0..rows),
            })
            .collect();
        matmul::matmul_each(self.kernels, &self.threads, &mut work);
        self.head_activations = activations;
        self.write_rows(out, heads * outputs, |_, range, out| {
            for (row, out) in range.zip(out.chunks_exact_mut(heads * outputs)) {
                for (head, out) in out.chunks_exact_mut(outputs).enumerate() {
                    out.copy_from_slice(&products[(head * rows + row) * outputs..][..outputs]);
                }
            }
        });
    }

    /// A product whose weight has its own factor: rare enough for a plain second pass.
    fn product_with_factor(&mut self, x: Slot, product: &Product) {
        let Some(Factor { weight, covers_bias }) = product.factor else { return self.linear(x, &[*product]) };
        let before = product.add.then(|| self.values(product.out).to_vec());
        let bias = product.bias.filter(|_| covers_bias);
        self.linear(x, &[Product { factor: None, bias, add: false, ..*product }]);
        let mut out = self.take(product.out);
        let count = self.elements(product.out);
        let factor = self.weights.vector(weight)[0];
        for value in &mut out[..count] {
            *value *= factor;
        }
        if let Some(bias) = product.bias.filter(|_| !covers_bias) {
            let bias = self.weights.vector(bias);
            for row in out[..count].chunks_exact_mut(bias.len()) {
                row.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
            }
        }
        if let Some(before) = before {
            out.iter_mut().zip(&before).for_each(|(value, before)| *value += before);
        }
        self.put(product.out, out);
    }
}
