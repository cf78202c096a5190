"""What is done to the data of a modality while they are sent: a module for each transform."""
