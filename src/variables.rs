//! The variables of a network: every tensor that is trained or saved, with its role and its
//! component. Both are stated where the variable is made. Optimizers, weight decay, freezing,
//! `--init-from` and parameter counts read them, so that nothing has to guess from a variable's
//! name what it is for.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Div;

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString};
use tch::{Device, Kind, Tensor};

use pixtok_torch::initialise_gaussian;
use pixtok_torch::tensors::Tensors;

/// Separates the parts of a name.
const SEPARATOR: char = '.';

/// What a variable is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The weight of a linear layer.
    Matrix,
    /// The weight of a convolution.
    Conv,
    /// Vectors that are looked up by index or added by position.
    Embedding,
    /// Codes of a quantizer, or the vectors that codes are computed from.
    Codebook,
    /// Scale or shift of a normalisation.
    Norm,
    /// The bias of a layer.
    Bias,
    /// Counts, moving averages, flags.
    Buffer,
}

/// The part of a training that a variable belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display, EnumString)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Component {
    /// Maps images to latents.
    Encoder,
    /// Maps latents to codes.
    Quantizer,
    /// Maps codes to images.
    Decoder,
    /// Tells reconstructions from images. It is not part of a tokenizer, so no config names it.
    #[serde(skip_deserializing)]
    Discriminator,
}

impl Component {
    /// The components of a tokenizer, in the order in which an image passes through them.
    pub const TOKENIZER: [Self; 3] = [Self::Encoder, Self::Quantizer, Self::Decoder];

    /// The component of a tensor in a saved tokenizer. A file holds only names and numbers; the
    /// first part of a name is its component's, as [`Variables::scope`] writes it.
    #[must_use]
    pub fn of_saved(name: &str) -> Option<Self> {
        name.split_once(SEPARATOR)?.0.parse().ok()
    }
}

/// One variable.
#[derive(Debug)]
pub struct Variable {
    /// Its full name, as in checkpoints.
    pub name: String,
    /// Its numbers, which it shares with the layer that uses them.
    pub tensor: Tensor,
    /// What the variable is for.
    pub role: Role,
    /// The component that it belongs to.
    pub component: Component,
    /// Whether pixels are the input or output of its layer.
    pub touches_pixels: bool,
    /// Whether it is a parameter rather than a buffer. Gradients train it unless it is frozen.
    pub trained: bool,
}

impl Variable {
    /// The same variable, with shared storage.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        Self { name: self.name.clone(), tensor: self.tensor.shallow_clone(), ..*self }
    }

    /// The number of elements.
    #[must_use]
    pub fn count(&self) -> i64 {
        self.tensor.numel() as i64
    }
}

/// The initial values of a variable. Random values are drawn from libtorch's generator.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// All 0.
    Zeros,
    /// All 1.
    Ones,
    /// Uniform from −bound to bound.
    Uniform {
        /// The largest absolute value.
        bound: f64,
    },
    /// Gaussian; the same on every processor.
    Gaussian {
        /// The mean of the distribution.
        mean: f64,
        /// The standard deviation of the distribution.
        deviation: f64,
    },
}

impl Init {
    /// PyTorch's default for weights and biases of a layer that sums `fan_in` numbers:
    /// `kaiming_uniform_(a = √5)`, which is uniform within 1/√`fan_in`.
    #[must_use]
    pub fn fan_in(fan_in: i64) -> Self {
        Self::Uniform { bound: 1.0 / (fan_in as f64).sqrt() }
    }

    /// Draws a float32 tensor of this `shape`.
    fn draw(self, shape: &[i64], device: Device) -> Tensor {
        let mut tensor = match self {
            Self::Ones => Tensor::ones(shape, (Kind::Float, device)),
            _ => Tensor::zeros(shape, (Kind::Float, device)),
        };
        match self {
            Self::Zeros | Self::Ones => {}
            Self::Uniform { bound } => {
                let _ = tensor.uniform_(-bound, bound);
            }
            Self::Gaussian { mean, deviation } => initialise_gaussian(&tensor, mean, deviation),
        }
        tensor
    }
}

/// Owns the variables of a network.
#[derive(Debug)]
pub struct Variables {
    device: Device,
    by_name: RefCell<BTreeMap<String, Variable>>,
}

impl Variables {
    /// An empty set of variables, to be made on `device`.
    #[must_use]
    pub fn new(device: Device) -> Self {
        Self { device, by_name: RefCell::default() }
    }

    /// The device of the variables.
    #[must_use]
    pub fn device(&self) -> Device {
        self.device
    }

    /// A scope for variables of `component` whose names start with the component's.
    #[must_use]
    pub fn scope(&self, component: Component) -> Scope<'_> {
        self.root(component) / component
    }

    /// A scope for variables of `component` whose names have no prefix.
    #[must_use]
    pub fn root(&self, component: Component) -> Scope<'_> {
        Scope { variables: self, path: String::new(), component, touches_pixels: false }
    }

    /// All variables, in the order of their names.
    #[must_use]
    pub fn entries(&self) -> Vec<Variable> {
        self.by_name.borrow().values().map(Variable::shallow_clone).collect()
    }

    /// The tensors by name, as a checkpoint has them.
    #[must_use]
    pub fn tensors(&self) -> Tensors {
        let by_name = self.by_name.borrow();
        by_name.iter().map(|(name, variable)| (name.clone(), variable.tensor.shallow_clone())).collect()
    }

    /// The number of elements of these components' parameters, including frozen ones.
    #[must_use]
    pub fn parameters(&self, components: &[Component]) -> i64 {
        let by_name = self.by_name.borrow();
        let counted = by_name.values().filter(|found| found.trained && components.contains(&found.component));
        counted.map(Variable::count).sum()
    }

    /// Stops gradients to the variables of these components.
    pub fn freeze(&self, components: &[Component]) {
        for variable in self.by_name.borrow().values() {
            if components.contains(&variable.component) {
                let _ = variable.tensor.set_requires_grad(false);
            }
        }
    }
}

/// A place for new variables: `scope / "conv1"` is a place inside it. It knows the component and
/// the first part of the names.
///
/// Each function makes one variable with one role and returns its tensor. The order of the calls is
/// the order of the random draws, so a layer that changes it starts from different weights.
#[derive(Debug, Clone)]
pub struct Scope<'a> {
    variables: &'a Variables,
    path: String,
    component: Component,
    touches_pixels: bool,
}

impl Scope<'_> {
    /// The device of the variables.
    #[must_use]
    pub fn device(&self) -> Device {
        self.variables.device
    }

    /// The full name of a variable called `name` in this scope.
    #[must_use]
    pub fn name(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}{SEPARATOR}{name}", self.path) }
    }

    /// The same scope, for a layer with pixels as input or output.
    #[must_use]
    pub fn touching_pixels(&self) -> Self {
        Self { touches_pixels: true, ..self.clone() }
    }

    /// The weight of a linear layer, `[out, in]`.
    pub fn matrix(&self, name: &str, shape: [i64; 2], init: Init) -> Tensor {
        self.add(name, Role::Matrix, true, &shape, init)
    }

    /// The weight of a convolution, `[out, in, height, width]`.
    pub fn conv(&self, name: &str, shape: [i64; 4], init: Init) -> Tensor {
        self.add(name, Role::Conv, true, &shape, init)
    }

    /// Vectors that are looked up or added, `[vectors, D]`.
    pub fn embedding(&self, name: &str, shape: [i64; 2], init: Init) -> Tensor {
        self.add(name, Role::Embedding, true, &shape, init)
    }

    /// Codes that learn by gradient, `[K, D]`, or the vectors that codes are computed from.
    pub fn codebook(&self, name: &str, shape: [i64; 2], init: Init) -> Tensor {
        self.add(name, Role::Codebook, true, &shape, init)
    }

    /// Codes that no gradient changes, `[K, D]`.
    pub fn codebook_buffer(&self, name: &str, shape: [i64; 2], init: Init) -> Tensor {
        self.add(name, Role::Codebook, false, &shape, init)
    }

    /// Scale or shift of a normalisation.
    pub fn norm(&self, name: &str, shape: &[i64], init: Init) -> Tensor {
        self.add(name, Role::Norm, true, shape, init)
    }

    /// The bias of a layer with `channels` output channels.
    pub fn bias(&self, name: &str, channels: i64, init: Init) -> Tensor {
        self.add(name, Role::Bias, true, &[channels], init)
    }

    /// Counts, moving averages, flags.
    pub fn buffer(&self, name: &str, shape: &[i64], init: Init) -> Tensor {
        self.add(name, Role::Buffer, false, shape, init)
    }

    fn add(&self, name: &str, role: Role, trained: bool, shape: &[i64], init: Init) -> Tensor {
        let name = self.name(name);
        let tensor = init.draw(shape, self.device());
        let tensor = if trained { tensor.set_requires_grad(true) } else { tensor };
        let variable = Variable {
            name: name.clone(),
            tensor: tensor.shallow_clone(),
            role,
            component: self.component,
            touches_pixels: self.touches_pixels,
            trained,
        };
        let earlier = self.variables.by_name.borrow_mut().insert(name, variable);
        // A checkpoint would hold only one of the two.
        assert!(earlier.is_none(), "two variables have one name: {earlier:?}");
        tensor
    }
}

impl<'a, T: fmt::Display> Div<T> for &Scope<'a> {
    type Output = Scope<'a>;

    fn div(self, part: T) -> Scope<'a> {
        Scope { path: self.name(&part.to_string()), ..self.clone() }
    }
}

impl<'a, T: fmt::Display> Div<T> for Scope<'a> {
    type Output = Scope<'a>;

    fn div(self, part: T) -> Scope<'a> {
        &self / part
    }
}

#[cfg(test)]
mod tests;
